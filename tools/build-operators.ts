/**
 * `node tools/build-operators.ts`: compiles the engine's own operators into TESSELLATE_NATIVE (or the user's cache), so that
 * no process has to that starts later: tests, and images, which need no compiler then.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { machineLibrary } from "../shard-runtime/engine/native/products.ts";

const built = await machineLibrary(join(homedir(), ".cache", "tessellate", "native"));
console.log("path" in built ? built.path : built.reason);
process.exitCode = "path" in built ? 0 : 1;
