/** Where benches keep what is dear to make: checkpoints, packed shards, libraries. */
import { homedir } from "node:os";
import { join } from "node:path";

export const benchCache = (): string =>
  join(process.env["TESSELLATE_CACHE"] ?? join(homedir(), ".cache", "tessellate"), "bench");
