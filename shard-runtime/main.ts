/**
 * One rank: `node shard-runtime/main.ts --config rank.json`. Prints one JSON line on stdout when its doors are open, logs
 * JSON lines on stderr, and ends with 0 after SIGTERM. It ends with 1 where it cannot even open its doors (the
 * configuration, the certificate, the port: the one line on stderr says what), or when the engine has died.
 *
 * A rank that finds its shard packed is ready in less than a second, of which modules take a good part: so the engine's
 * thread gets its own while this one gets the rest.
 */
import { prepareWorker } from "./engine/engine-worker.ts";

prepareWorker();
await import("./rank-process.ts");
