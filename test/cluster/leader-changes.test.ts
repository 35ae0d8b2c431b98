/** Who may write, on a real API server: one leader at a time, whatever those before it believe. */
import { expect } from "chai";
import type { Access } from "../../operator/kube/access.ts";
import { KubeClient, isStatus } from "../../operator/kube/client.ts";
import { SECRETS } from "../../operator/kube/objects.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { FENCE, changeLeaders, installFence } from "./leader-changes.ts";

const { namespace } = FENCE;

describe("leaders on a real API server", function () {
  this.timeout(300_000);
  let cluster: ControlPlane;
  let access: Access;
  before(async () => {
    cluster = await startControlPlane();
    access = await installFence(cluster);
  });
  after(async () => {
    access?.close();
    await cluster?.stop();
  });

  it("follow one another 250 times (a thousand in the bench), and no deposed one's write takes effect", async () => {
    const outcome = await changeLeaders(access, 250, 5);
    expect(outcome.wrong).to.deep.equal([]);
    expect(outcome.pausedCount).to.be.greaterThan(50);
    expect(outcome.deniedCount).to.equal(4 * outcome.pausedCount);
  });

  it("are denied without an epoch, too, and others are not", async () => {
    const metadata = { name: "unfenced", namespace };
    const said = await new KubeClient(access).create(SECRETS, { metadata }).catch((error: unknown) => error);
    expect(isStatus(said, 403)).to.equal(true);
    await cluster.kubectl(["-n", namespace, "create", "secret", "generic", "unfenced"]);
  });
});
