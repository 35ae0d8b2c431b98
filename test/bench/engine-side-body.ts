/** What runs in the process of engine-side.ts; it starts as a rank does, see shard-runtime/main.ts. */
import { prepareWorker } from "../../shard-runtime/engine/engine-worker.ts";

prepareWorker();
await import("./engine-side-commands.ts");
