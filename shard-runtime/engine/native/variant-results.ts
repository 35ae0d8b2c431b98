/** For the tests beside: what a program computes as one variant of the operators, which a process chooses once. */
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";

/** Gives `program` the library, the thread count and the cases as a line of JSON; it prints one base64 of f32 a line. */
export async function variantResults(
  program: string,
  library: string,
  asked: { readonly variant: string; readonly threadCount: number; readonly cases: readonly object[] },
): Promise<readonly Float32Array[]> {
  const child = spawn(process.execPath, [program, library, String(asked.threadCount)], {
    env: { ...process.env, TESSELLATE_PRODUCTS: asked.variant },
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.end(`${JSON.stringify(asked.cases)}\n`);
  const lines = (await text(child.stdout)).trim().split("\n");
  return lines.map((line) => {
    const bytes = Buffer.from(line, "base64");
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  });
}
