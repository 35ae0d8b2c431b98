/** WebGPU without a GPU: has the process take SwiftShader (see tools/swiftshader.ts) as its only Vulkan driver. */
import { join } from "node:path";
import koffi, { type LibraryHandle } from "koffi";
import type { Context } from "mocha";
import { swiftShaderFolder } from "../tools/swiftshader.ts";
import { requireOrSkip } from "./requirement.ts";

let loader: LibraryHandle | undefined;

/**
 * For the rest of the process. Without SwiftShader the running test or hook (`context` is mocha's `this`) fails in CI,
 * and is skipped elsewhere with the reason.
 */
export function useSwiftShader(context: Context): void {
  const folder = swiftShaderFolder();
  if (folder === undefined)
    requireOrSkip(context, "SwiftShader is not here; `npm test -- golden` fetches it on Debian");
  if (folder === undefined || loader !== undefined) return;
  const driver = join(folder, "vk_swiftshader_icd.json");
  for (const name of ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"]) process.env[name] = driver;
  // For processes that this one starts.
  process.env["LD_LIBRARY_PATH"] = [folder, process.env["LD_LIBRARY_PATH"]].filter(Boolean).join(":");
  // Whoever asks for libvulkan.so.1 later gets the one that is loaded already.
  loader = koffi.load(join(folder, "libvulkan.so.1"));
}
