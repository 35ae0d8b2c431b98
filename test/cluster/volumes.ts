/**
 * A pod's volumes as folders on this machine. Files that come from the API are laid out as a kubelet lays them out:
 * `..data` is a link to the current version, so that a process that watches it sees all files change at once.
 */
import {
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ApiClient } from "./api-client.ts";
import { fieldOf, keyedFiles, type PodPlace, resourceOf } from "./environment.ts";
import type { FileItem, Pod, Projection, Volume } from "./kube-types.ts";

const DEFAULT_MODE = 0o644;
const TOKEN_SECONDS = 3600;

export interface VolumeHost {
  readonly api: ApiClient;
  readonly pod: Pod;
  readonly place: PodPlace;
  /** Where the volumes' folders are made, one per volume name. */
  readonly folder: string;
}

/** Where a volume is, and whether the API owns its content (such a volume is read-only in containers). */
export interface MountedVolume {
  readonly path: string;
  readonly readOnly: boolean;
}

interface File {
  readonly path: string;
  readonly content: Buffer;
  readonly mode: number;
}

/**
 * Makes one volume, or brings it up to date when it exists. Throws, naming the volume, while something that it needs is
 * missing.
 */
export async function mountVolume(host: VolumeHost, volume: Volume): Promise<MountedVolume> {
  try {
    return await mount(host, volume);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : cause;
    throw new Error(`MountVolume.SetUp failed for volume "${volume.name}": ${reason}`, { cause });
  }
}

async function mount(host: VolumeHost, volume: Volume): Promise<MountedVolume> {
  const path = join(host.folder, volume.name);
  if (volume.emptyDir) {
    await mkdir(path, { recursive: true });
    await chmod(path, 0o777);
    const group = host.pod.spec.securityContext?.fsGroup;
    if (group !== undefined) {
      await chown(path, 0, group);
      await chmod(path, 0o2777);
    }
    return { path, readOnly: false };
  }
  if (volume.hostPath) {
    if (volume.hostPath.type?.endsWith("OrCreate")) await mkdir(volume.hostPath.path, { recursive: true });
    await stat(volume.hostPath.path);
    return { path: volume.hostPath.path, readOnly: false };
  }
  if (volume.persistentVolumeClaim) {
    return { path: await claimedPath(host, volume.persistentVolumeClaim.claimName), readOnly: false };
  }
  const { sources, defaultMode } = projectionsOf(volume);
  const group = host.pod.spec.securityContext?.fsGroup;
  const files: File[] = [];
  for (const source of sources) files.push(...(await filesOf(host, source, defaultMode)));
  await writeAtomically(path, files, group);
  return { path, readOnly: true };
}

interface Projections {
  readonly sources: readonly Projection[];
  readonly defaultMode: number;
}

function projectionsOf(volume: Volume): Projections {
  const { secret, configMap, downwardAPI, projected } = volume;
  if (secret) {
    const { secretName: name, defaultMode = DEFAULT_MODE, ...rest } = secret;
    return { sources: [{ secret: { name, ...rest } }], defaultMode };
  }
  if (configMap) return { sources: [{ configMap }], defaultMode: configMap.defaultMode ?? DEFAULT_MODE };
  if (downwardAPI) return { sources: [{ downwardAPI }], defaultMode: downwardAPI.defaultMode ?? DEFAULT_MODE };
  if (projected) return { sources: projected.sources ?? [], defaultMode: projected.defaultMode ?? DEFAULT_MODE };
  const kinds = Object.keys(volume).filter((key) => key !== "name");
  throw new Error(`the process-kubelet does not know volumes of the kind ${kinds.join(", ")}`);
}

async function filesOf(host: VolumeHost, source: Projection, defaultMode: number): Promise<readonly File[]> {
  const namespace = host.pod.metadata.namespace ?? "default";
  if (source.secret) {
    const contents = await keyedFiles(host.api, { kind: "secrets", namespace, ...source.secret });
    return chosenFiles(contents, source.secret, defaultMode);
  }
  if (source.configMap) {
    const contents = await keyedFiles(host.api, { kind: "configmaps", namespace, ...source.configMap });
    return chosenFiles(contents, source.configMap, defaultMode);
  }
  if (source.downwardAPI) {
    return (source.downwardAPI.items ?? []).map(({ path, mode = defaultMode, fieldRef, resourceFieldRef }) => {
      const text = fieldRef
        ? fieldOf(host.pod, fieldRef.fieldPath, host.place)
        : resourceFieldRef
          ? resourceOf(host.pod, resourceFieldRef)
          : "";
      return { path, mode, content: Buffer.from(text) };
    });
  }
  if (source.serviceAccountToken) {
    const content = Buffer.from(await requestToken(host, source.serviceAccountToken));
    return [{ path: source.serviceAccountToken.path, content, mode: defaultMode }];
  }
  throw new Error(`the process-kubelet does not know projections of the kind ${Object.keys(source).join(", ")}`);
}

function chosenFiles(
  contents: ReadonlyMap<string, Buffer> | undefined,
  source: { readonly name: string; readonly items?: readonly FileItem[]; readonly optional?: boolean },
  defaultMode: number,
): readonly File[] {
  if (contents === undefined) return [];
  const items: readonly FileItem[] = source.items ?? [...contents.keys()].map((key) => ({ key, path: key }));
  return items.flatMap(({ key, path, mode = defaultMode }) => {
    const content = contents.get(key);
    if (content !== undefined) return [{ path, content, mode }];
    if (source.optional) return [];
    throw new Error(`references non-existent key ${key} of "${source.name}"`);
  });
}

async function requestToken(
  host: VolumeHost,
  source: { readonly audience?: string; readonly expirationSeconds?: number },
): Promise<string> {
  const { metadata, spec } = host.pod;
  const path = `/api/v1/namespaces/${metadata.namespace}/serviceaccounts/${spec.serviceAccountName ?? "default"}/token`;
  const answer = await host.api.request<{ readonly status: { readonly token: string } }>("POST", path, {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: {
      ...(source.audience === undefined ? {} : { audiences: [source.audience] }),
      expirationSeconds: source.expirationSeconds ?? TOKEN_SECONDS,
      boundObjectRef: { apiVersion: "v1", kind: "Pod", name: metadata.name, uid: metadata.uid },
    },
  });
  return answer.status.token;
}

async function claimedPath(host: VolumeHost, claimName: string): Promise<string> {
  const claim = await host.api.get<{ readonly spec: { readonly volumeName?: string } }>(
    `/api/v1/namespaces/${host.pod.metadata.namespace}/persistentvolumeclaims/${claimName}`,
  );
  if (!claim.spec.volumeName) throw new Error(`persistentvolumeclaim "${claimName}" is not bound`);
  const volume = await host.api.get<{ readonly spec: { readonly hostPath?: { readonly path: string } } }>(
    `/api/v1/persistentvolumes/${claim.spec.volumeName}`,
  );
  const path = volume.spec.hostPath?.path;
  if (path === undefined) throw new Error(`persistentvolume "${claim.spec.volumeName}" has no hostPath`);
  await mkdir(path, { recursive: true });
  const group = host.pod.spec.securityContext?.fsGroup;
  if (group !== undefined) {
    // As a kubelet does for volumes that can have an owner.
    await chown(path, 0, group);
    await chmod(path, 0o2775);
  }
  return path;
}

/** Replaces the folder's whole content in one step, as seen through its `..data` link. */
async function writeAtomically(folder: string, files: readonly File[], group: number | undefined): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o755 });
  const data = join(folder, "..data");
  const before = await readlink(data).catch(() => undefined);
  if (before !== undefined && (await holds(data, files))) return;
  const version = `..${new Date().toISOString().replace(/\D/g, "_")}${process.hrtime.bigint()}`;
  for (const { path, content, mode } of files) {
    const target = join(folder, version, path);
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    await writeFile(target, content);
    // A kubelet lets the pod's file-system group read what it mounts, whatever the mode says.
    await chmod(target, group === undefined ? mode : mode | 0o440);
    if (group !== undefined) await chown(target, 0, group);
  }
  await mkdir(join(folder, version), { recursive: true, mode: 0o755 });
  await symlink(version, join(folder, "..data_next"));
  await rename(join(folder, "..data_next"), data);
  for (const name of new Set(files.map(({ path }) => path.split("/")[0] ?? path))) {
    await symlink(join("..data", name), join(folder, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
  if (before !== undefined) await rm(join(folder, before), { recursive: true, force: true });
}

/** Whether the folder holds exactly these files, so that a volume which has not changed is not touched. */
async function holds(folder: string, files: readonly File[]): Promise<boolean> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  if (entries.filter((entry) => entry.isFile()).length !== files.length) return false;
  const same = files.map(async ({ path, content }) => {
    const present = await readFile(join(folder, path)).catch(() => undefined);
    return present?.equals(content) ?? false;
  });
  return (await Promise.all(same)).every(Boolean);
}
