/**
 * A base for images where none is given: Debian packages unpacked, as the system's own apt sources offer them, without
 * shell or package manager. Ten megabytes, for which no registry of images has to be reached.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { runStep } from "../run.ts";

export type DebianPackage = { readonly name: string; readonly version: string; readonly architecture: string };
export type Base = { readonly tar: string; readonly packages: readonly DebianPackage[] };

/** What Node and ONNX Runtime are linked with, and who it is from. */
const PACKAGES = ["base-files", "libc6", "libgcc-s1", "libstdc++6"];
const HOOK = "images/debian-base.sh";
/** Security fixes come with a new base: nobody should build for weeks on what was unpacked once. */
const FRESH_DAYS = 7;

/** The base's tar, from `cacheDirectory` where one was made this week. Throws what mmdebstrap said where it fails. */
export async function debianBase(cacheDirectory: string, todayMs: number): Promise<Base> {
  const week = Math.floor(todayMs / (FRESH_DAYS * 86_400_000));
  const suite = /^VERSION_CODENAME=(.+)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
  if (suite === undefined) throw new Error("/etc/os-release names no Debian release: give an image with --base");
  const sources = globSync("/etc/apt/sources.list{,.d/debian.{sources,list}}").filter(
    (file) => existsSync(file) && readFileSync(file, "utf8").trim() !== "",
  );
  const identity = [suite, String(week), process.arch, ...PACKAGES, readFileSync(HOOK, "utf8")].join("\n");
  const digest = createHash("sha256").update(identity).digest("hex").slice(0, 16);
  const tar = join(cacheDirectory, `base-${digest}.tar`);
  if (!existsSync(tar)) {
    mkdirSync(cacheDirectory, { recursive: true });
    const partial = join(cacheDirectory, `base-${digest}.${process.pid}.partial.tar`);
    const options = ["--variant=extract", `--include=${PACKAGES.join()}`, `--extract-hook=sh ${HOOK} "$1"`];
    const command = ["mmdebstrap", ...options, suite, partial, ...sources] as const;
    const { code, output } = await runStep({ name: "base", command, env: { SOURCE_DATE_EPOCH: "0" } });
    if (code !== 0) throw new Error(`mmdebstrap could not make the base of ${suite}:\n${output}`);
    renameSync(partial, tar);
  }
  return { tar, packages: packagesIn(tar) };
}

/** As the files in var/lib/dpkg/status.d say, where scanners look in images without a package manager. */
function packagesIn(tar: string): readonly DebianPackage[] {
  const text = execFileSync(
    "tar",
    ["--extract", "--to-stdout", "--file", tar, "--wildcards", "./var/lib/dpkg/status.d/*"],
    {
      encoding: "utf8",
    },
  );
  const field = (paragraph: string, name: string) => new RegExp(`^${name}: (.+)$`, "m").exec(paragraph)?.[1] ?? "";
  return text
    .split(/^(?=Package: )/m)
    .filter((paragraph) => paragraph.startsWith("Package: "))
    .map((paragraph) => ({
      name: field(paragraph, "Package"),
      version: field(paragraph, "Version"),
      architecture: field(paragraph, "Architecture"),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
