/** For tests that look for processes left behind; Linux only. */
import { readdirSync, readFileSync } from "node:fs";

/** The command lines on this machine that contain `text`, words separated by spaces. */
export function commandLinesWith(text: string): readonly string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(commandLine)
    .filter((line) => line.includes(text));
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    // It ended between the two reads.
    return "";
  }
}
