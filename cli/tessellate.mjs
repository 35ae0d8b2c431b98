#!/usr/bin/env node
// The `tessellate` command from any Node ≥ 20: installs what is missing, then runs cli/main.ts with the bundled Node.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
process.argv.splice(2, 0, join(here, "main.ts"));
await import("../tools/start.mjs");
