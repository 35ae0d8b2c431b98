/**
 * SwiftShader, a GPU driver for Vulkan that computes on the processor: what the WebGPU tests run on where there is no
 * GPU. Debian ships it inside Chromium; of that package's 31 MB three files are kept, and nothing is installed.
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { runStep } from "./run.ts";

const PACKAGE = "chromium-common";
const INSTALLED = "/usr/lib/chromium";
const FILES = ["libvulkan.so.1", "libvk_swiftshader.so", "vk_swiftshader_icd.json"] as const;

const cached = (): string =>
  join(process.env["TESSELLATE_CACHE"] || join(homedir(), ".cache", "tessellate"), "swiftshader");

/** Where SwiftShader and a Vulkan loader are, or undefined where they are not here. */
export function swiftShaderFolder(): string | undefined {
  return [INSTALLED, cached()].find((folder) => FILES.every((file) => existsSync(join(folder, file))));
}

/** Fetches SwiftShader where it is missing and can be had. Says what it did and what it could not do. */
export async function setUpSwiftShader(): Promise<void> {
  if (swiftShaderFolder() !== undefined) return;
  if (process.platform !== "linux" || !existsSync("/usr/bin/apt-get")) {
    console.log("• SwiftShader not found: the WebGPU tests will say so");
    return;
  }
  console.log(`• SwiftShader, from Debian's ${PACKAGE} (31 MB, once; then cached)`);
  const folder = await mkdtemp(join(tmpdir(), "tessellate-swiftshader-"));
  try {
    const said = await download(folder);
    console.log(said === undefined ? `  in ${cached()}` : `  could not be had: ${said}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function download(folder: string): Promise<string | undefined> {
  // The download may run as another user, who must be able to write here.
  const get = `chmod 755 ${folder} && cd ${folder} && apt-get download ${PACKAGE}`;
  const command = `(${get}) || (apt-get update && ${get})`;
  const { code, output } = await runStep({ name: "apt-get download", command: ["bash", "-c", command] });
  const archive = (await readdir(folder)).find((name) => name.startsWith(`${PACKAGE}_`) && name.endsWith(".deb"));
  if (code !== 0 || archive === undefined) return output.trim().split("\n").at(-1) ?? "no package came";
  const paths = FILES.map((file) => `.${INSTALLED}/${file}`).join(" ");
  const unpack = `dpkg-deb --fsys-tarfile ${join(folder, archive)} | tar --extract --directory ${folder} ${paths}`;
  const unpacked = await runStep({ name: "unpack", command: ["bash", "-c", unpack] });
  if (unpacked.code !== 0) return unpacked.output.trim();
  await mkdir(join(cached(), ".."), { recursive: true });
  await rm(cached(), { recursive: true, force: true });
  await moved(join(folder, INSTALLED), cached());
  return undefined;
}

/** A rename where both are on one file system, else a copy. */
async function moved(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch {
    await runStep({ name: "copy", command: ["cp", "-r", from, to] });
  }
}
