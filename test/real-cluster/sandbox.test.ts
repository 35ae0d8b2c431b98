/** That the cluster's namespaces end with the run that made them, however that ended, and that the next one tidies up. */
import { expect } from "chai";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { nodeBinaries } from "../../tools/kube/build.ts";
import { requireOrSkip } from "../requirement.ts";
import { until } from "../until.ts";
import { controlGroupsOfClusters } from "./control-groups.ts";
import { whyNoRealCluster } from "./real-cluster.ts";
import { startSandbox } from "./sandbox.ts";
import { namespacesOf, processesIn } from "./traces.ts";

const BODY = fileURLToPath(new URL("killed-body.ts", import.meta.url));

describe("the namespaces of a test cluster", function () {
  this.timeout(60_000);

  before(async function () {
    const why = whyNoRealCluster();
    requireOrSkip(this, why);
    this.timeout(2_400_000); // the first time the binaries are built
    await nodeBinaries(); // and the body must not wait for that
  });

  it("end with a run that is killed, and the next run removes what else it has left", async () => {
    const run = spawn(process.execPath, [BODY], { stdio: ["ignore", "pipe", "inherit"] });
    const exited = once(run, "exit");
    const [line] = await Promise.race([once(createInterface(run.stdout), "line"), exited]);
    const said = parseJson(String(line));
    if (!isJsonObject(said)) throw new Error(`the run that was to be killed ended by itself: ${line}`);
    const namespaces = namespacesOf(String(said["process1"]));
    const groups = () => controlGroupsOfClusters().filter((path) => path.endsWith(String(said["controlGroup"])));
    expect(namespaces).to.have.length(3);
    await until("its processes to run", () => processesIn(namespaces).length >= 3); // the first, the relay, and one left
    expect(groups()).not.to.deep.equal([]);

    run.kill("SIGKILL");
    await exited;
    await until("its processes to be ended by the kernel", () => processesIn(namespaces).length === 0);

    const { pause } = await nodeBinaries();
    const nodes = [{ namespace: "node1", address: "10.90.0.11", subnet: "10.244.1.0/24" }];
    const next = await startSandbox({ init: pause, address: "10.90.0.1", nodes });
    try {
      expect(groups()).to.deep.equal([]);
      expect(existsSync(String(said["folder"]))).to.equal(false);
    } finally {
      await next.stop();
    }
    expect(existsSync(next.folder)).to.equal(false);
  });
});
