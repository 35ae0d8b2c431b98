/** Where a cache of codes can be had: attention over it is an operator of our own, which runs on the processor. */
import type { KvDtype } from "../../core/kv-cache.ts";
import { type Result, ok, refuse } from "../../core/result.ts";

/** `library`: of native/products.ts; `reason`: why there is none, where that is known. */
export function checkKvDtype(
  kvDtype: KvDtype,
  device: string,
  library: { readonly path: string } | { readonly reason: string },
): Result<undefined, "KvCacheUnsupported"> {
  if (kvDtype === "f32") return ok(undefined);
  const asked = `spec.kvCache.dtype is ${kvDtype}`;
  if (device !== "cpu")
    return refuse(
      "KvCacheUnsupported",
      `${asked}, and device ${JSON.stringify(device)} keeps keys and values as its own attention does; use f32, or nodes whose device is cpu`,
    );
  if ("path" in library) return ok(undefined);
  return refuse(
    "KvCacheUnsupported",
    `${asked}, which needs attention of our own, and this node has none: ${library.reason}. Install a C compiler (cc), ` +
      "put the compiled library into the folder TESSELLATE_NATIVE, or use f32",
  );
}
