/** `tessellate verify` as a client has it: a saved answer, and what the cluster says of providers and model. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { REPOSITORY } from "../cluster/container-process.ts";

/** What it prints; throws where it finds fault. `providers` is the text of `kubectl get providers -o yaml`. */
export async function verifyCommand(savedAnswer: Uint8Array, providers: string, modelRoot: string): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "tessellate-e2e-answer-"));
  try {
    const [answerFile, providersFile] = [join(directory, "answer.json"), join(directory, "providers.yaml")];
    writeFileSync(answerFile, savedAnswer);
    writeFileSync(providersFile, providers);
    const line = ["cli/main.ts", "verify", answerFile, "--providers", providersFile, "--model", modelRoot];
    return (await promisify(execFile)(process.execPath, line, { cwd: REPOSITORY })).stdout;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
