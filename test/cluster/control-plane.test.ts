import { existsSync } from "node:fs";
import { expect } from "chai";
import { whyNoProcessKubelet } from "../requirement.ts";
import { commandLinesWith } from "./command-lines.ts";
import { CommandFailed, type ControlPlane, startControlPlane } from "./control-plane.ts";

describe("the test control plane", function () {
  // A cold build of the binaries takes about ten minutes on two cores.
  this.timeout(1_200_000);
  let controlPlane: ControlPlane;

  before(async () => {
    controlPlane = await startControlPlane();
  });

  after(() => controlPlane?.stop());

  it("is Kubernetes of the pinned version", async () => {
    const version = JSON.parse(await controlPlane.kubectl(["version", "-o", "json"]));
    expect(version.serverVersion.gitVersion).to.equal("v1.36.3");
    expect(version.clientVersion.gitVersion).to.equal("v1.36.3");
  });

  it("authorises by RBAC: an unknown service account may read nothing", async () => {
    const asNobody = ["auth", "can-i", "list", "pods", "--as=system:serviceaccount:default:default"];
    const refusal = await controlPlane.kubectl(asNobody).catch((error: unknown) => error);
    expect(refusal).to.be.instanceOf(CommandFailed).with.property("stdout", "no\n");
    expect(await controlPlane.kubectl(["auth", "can-i", "*", "*"])).to.equal("yes\n");
  });

  it("runs its controllers: a Deployment gets its pods, a namespace goes with all it holds", async () => {
    await controlPlane.kubectl(["create", "namespace", "short-lived"]);
    await controlPlane.kubectl(["-n", "short-lived", "create", "deployment", "d", "--image=none", "--replicas=2"]);
    await controlPlane.kubectl(["-n", "short-lived", "wait", "--for=create", "pod", "-l", "app=d", "--timeout=30s"]);
    await controlPlane.kubectl(["delete", "namespace", "short-lived", "--timeout=60s"]);
    const left = await controlPlane.kubectl(["get", "pods", "-A", "-o", "name"]);
    expect(left).to.equal("");
  });

  it("runs helm", async () => {
    expect(await controlPlane.helm(["version", "--short"])).to.match(/^v3\.22\./);
    expect(await controlPlane.helm(["list", "-A", "-q"])).to.equal("");
  });

  it("goes on after its API server was away", async () => {
    await controlPlane.kubectl(["create", "configmap", "kept", "--from-literal=key=value"]);
    await controlPlane.apiServer.stop();
    const refusal = await controlPlane.kubectl(["get", "configmap", "kept"]).catch((error: unknown) => error);
    expect(refusal).to.be.instanceOf(CommandFailed);
    await controlPlane.apiServer.start();
    expect(await controlPlane.kubectl(["get", "configmap", "kept", "-o", "jsonpath={.data.key}"])).to.equal("value");
  });

  it("leaves nothing behind", async () => {
    const { directory } = controlPlane;
    await controlPlane.stop();
    expect(existsSync(directory)).to.equal(false);
    if (whyNoProcessKubelet() === undefined) expect(commandLinesWith(directory)).to.deep.equal([]);
  });
});
