/** A default StorageClass whose volumes are folders on this machine: what a one-machine cluster ships with. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type ApiClient, ApiError, type ChangeEvent } from "./api-client.ts";
import type { KubeObject } from "./kube-types.ts";

const PROVISIONER = "tessellate.dev/test-folder";
const CLASS = "folder";

interface Claim extends KubeObject {
  readonly spec: {
    readonly storageClassName?: string;
    readonly volumeName?: string;
    readonly accessModes?: readonly string[];
    readonly resources?: { readonly requests?: Readonly<Record<string, string>> };
  };
}

interface Volume extends KubeObject {
  readonly spec: { readonly storageClassName?: string; readonly hostPath?: { readonly path: string } };
  readonly status?: { readonly phase?: string };
}

/** Serves claims until `signal` is aborted. A released volume is deleted with what it holds. */
export async function provideStorage(api: ApiClient, folder: string, signal: AbortSignal): Promise<void> {
  const metadata = { name: CLASS, annotations: { "storageclass.kubernetes.io/is-default-class": "true" } };
  await tolerate(
    api.request("POST", "/apis/storage.k8s.io/v1/storageclasses", { metadata, provisioner: PROVISIONER }),
    409,
  );
  await Promise.all([
    api.follow<Claim>(
      "/api/v1/persistentvolumeclaims",
      ({ type, object }) => {
        if (type !== "DELETED") void provide(api, folder, object);
      },
      signal,
    ),
    api.follow<Volume>("/api/v1/persistentvolumes", (event) => void reclaim(api, event), signal),
  ]);
}

async function provide(api: ApiClient, folder: string, claim: Claim): Promise<void> {
  const { metadata, spec } = claim;
  if (spec.storageClassName !== CLASS || spec.volumeName) return;
  const name = `pvc-${metadata.uid}`;
  await tolerate(
    api.request("POST", "/api/v1/persistentvolumes", {
      // Without this note the controller manager would try, and fail, to delete the volume itself.
      metadata: { name, annotations: { "pv.kubernetes.io/provisioned-by": PROVISIONER } },
      spec: {
        storageClassName: CLASS,
        capacity: { storage: spec.resources?.requests?.["storage"] ?? "1Gi" },
        accessModes: spec.accessModes,
        persistentVolumeReclaimPolicy: "Delete",
        hostPath: { path: join(folder, name) },
        claimRef: {
          ...{ apiVersion: "v1", kind: "PersistentVolumeClaim" },
          ...{ namespace: metadata.namespace, name: metadata.name, uid: metadata.uid },
        },
      },
    }),
    409,
  );
}

async function reclaim(api: ApiClient, { type, object }: ChangeEvent<Volume>): Promise<void> {
  const { metadata, spec, status } = object;
  if (type === "DELETED" || spec.storageClassName !== CLASS || status?.phase !== "Released" || !spec.hostPath) return;
  rmSync(spec.hostPath.path, { recursive: true, force: true });
  await tolerate(api.request("DELETE", `/api/v1/persistentvolumes/${metadata.name}`), 404);
}

/** Somebody else (or an earlier look at the same object) was faster. */
async function tolerate(request: Promise<unknown>, status: number): Promise<void> {
  await request.catch((error: unknown) => {
    if (!(error instanceof ApiError) || error.status !== status) throw error;
  });
}
