/** The operator's process: reads its options, opens its doors, runs its loop. */
import { parseArgs } from "node:util";
import { openStatusServer } from "../core/wire/status-server.ts";
import { PlannerThread } from "./apply/planner-thread.ts";
import { systemClock } from "./clock.ts";
import { Controller } from "./controller.ts";
import { clusterAccess } from "./kube/access.ts";
import { KubeClient } from "./kube/client.ts";

const USAGE = `node operator/main.ts --namespace NAME --identity NAME --image IMAGE --metrics HOST:PORT
  --namespace          where the operator, gateways and the ledger run
  --identity           of this process, unlike any other's; in a pod, its name
  --image              of rank pods
  --image-pull-policy  of rank pods (default: IfNotPresent)
  --watch-namespace    serve ShardedModels of this namespace only (default: all)
  --fence-as           service account to write as, system:serviceaccount:NAMESPACE:NAME, so that the API server's policy
                       tessellate-fence can deny a deposed leader's writes; with it nothing is written until that
                       policy is in force (default: writes are not fenced)
  --require-offers     a ShardNode counts only when its Provider has signed that it offers it
  --agent-signer       HOST:PORT of the node agents, for ranks on nodes that name no signer of their own
  --brake-share        percent of all nodes that may be given up within ten minutes because they went away; at least one
                       may (default: 20)
  --metrics            where /healthz, /readyz and /metrics answer
  --kubeconfig         file (default: KUBECONFIG, the pod's service account, ~/.kube/config)`;

const log = (event: string, fields: Readonly<Record<string, unknown>> = {}): void => {
  process.stdout.write(`${JSON.stringify({ event, time: new Date().toISOString(), ...fields })}\n`);
};

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      namespace: { type: "string" },
      identity: { type: "string" },
      image: { type: "string" },
      "image-pull-policy": { type: "string" },
      "watch-namespace": { type: "string" },
      "fence-as": { type: "string" },
      "require-offers": { type: "boolean", default: false },
      "agent-signer": { type: "string" },
      "brake-share": { type: "string", default: "20" },
      metrics: { type: "string" },
      kubeconfig: { type: "string" },
    },
  });
  const { namespace, identity, image, metrics } = values;
  const [, host, port] = /^(.*):(\d+)$/.exec(metrics ?? "") ?? [];
  const brakeSharePercent = Number(values["brake-share"]);
  if (!(brakeSharePercent >= 0 && brakeSharePercent <= 100)) {
    process.stderr.write(`--brake-share ${values["brake-share"]}: expected a percentage from 0 to 100\n`);
    process.exitCode = 2;
    return;
  }
  if (namespace === undefined || identity === undefined || image === undefined || host === undefined) {
    process.stderr.write(`${USAGE}\n`);
    process.exitCode = 2;
    return;
  }
  const client = new KubeClient(clusterAccess(values.kubeconfig));
  const clock = systemClock();
  const planner = new PlannerThread({ clock });
  const controller = new Controller({
    client,
    clock,
    planner,
    namespace,
    watchNamespace: values["watch-namespace"],
    identity,
    image,
    imagePullPolicy: values["image-pull-policy"],
    fenceAs: values["fence-as"],
    requireOffers: values["require-offers"],
    agentSigner: values["agent-signer"] === undefined ? undefined : `mtls:${values["agent-signer"]}`,
    brakeSharePercent,
    log,
  });
  const status = await openStatusServer({
    host: host.replace(/^\[|\]$/g, ""),
    port: Number(port),
    registry: controller.metrics.registry,
    unready: () => controller.unready(),
  });
  log("listening", { metricsAddress: status.address });
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort(new Error(signal)));
  try {
    await controller.run(stop.signal);
    log("ended");
  } finally {
    await Promise.all([status.close(), planner.close()]);
    client.close();
  }
}

main().then(
  // Connections that somebody keeps half open must not keep us.
  () => process.exit(process.exitCode ?? 0),
  (error: unknown) => {
    log("failed", { detail: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    process.exit(1);
  },
);
