/**
 * The first command on a fresh clone: `node tools/start.mjs FILE.ts [arguments]`, from any Node ≥ 20. Installs the
 * npm packages if package-lock.json has changed since they were installed, then runs FILE.ts with the Node 24 that is
 * one of those packages, so that an older Node on the machine is no obstacle.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const major = Number(process.versions.node.split(".")[0]);
if (major < 20) {
  console.error(
    `Node ${process.versions.node} is too old: tessellate needs Node 20 or newer to start (it brings its own 24).`,
  );
  process.exit(1);
}

await installPackages();
const binaries = join(root, "node_modules", ".bin");
const node = join(root, "node_modules", "node", "bin", process.platform === "win32" ? "node.exe" : "node");
const [file, ...rest] = process.argv.slice(2);
const child = spawn(existsSync(node) ? node : process.execPath, [file, ...rest], {
  stdio: "inherit",
  env: {
    ...process.env,
    PATH: `${binaries}${delimiter}${process.env.PATH ?? ""}`,
    // Sources are TypeScript: with what Node made of them kept, a command starts in a third of the time.
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(root, "node_modules", ".cache", "node"),
  },
});
// Ctrl-C reaches the whole process group by itself; a plain `kill` of this process must not leave the child behind.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
  });
}
child.on("exit", (code, signal) => process.exit(signal === null ? (code ?? 1) : 128 + 15));

async function installPackages() {
  const lock = join(root, "package-lock.json");
  const stamp = join(root, "node_modules", ".tessellate-lock");
  const wanted = createHash("sha256").update(readFileSync(lock)).digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  const startedAt = Date.now();
  process.stderr.write("installing npm packages (about a minute, once) …\n");
  const heartbeat = setInterval(() => {
    process.stderr.write(`  still installing, ${Math.round((Date.now() - startedAt) / 1000)} s\n`);
  }, 10_000);
  const { code, output } = await npmInstall();
  clearInterval(heartbeat);
  if (code !== 0) {
    process.stderr.write(output);
    process.stderr.write(
      `\nnpm ci failed (exit ${code}). Is the npm registry reachable? Run \`npm ci\` to see more.\n`,
    );
    process.exit(1);
  }
  writeFileSync(stamp, wanted);
  process.stderr.write(`installed in ${Math.round((Date.now() - startedAt) / 1000)} s\n`);
}

function npmInstall() {
  // ONNX Runtime's install script would download its CUDA libraries; the CPU and WebGPU ones are in the package.
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" };
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  if (spawnSync(npm, ["--version"], { env }).status !== 0) {
    return Promise.resolve({ code: 127, output: "npm was not found on the path: install Node.js with npm\n" });
  }
  return new Promise((resolve) => {
    let output = "";
    const install = spawn(npm, ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: root,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    install.stdout.on("data", (chunk) => (output += chunk));
    install.stderr.on("data", (chunk) => (output += chunk));
    install.on("close", (code) => resolve({ code, output }));
  });
}
