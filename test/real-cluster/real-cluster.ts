/**
 * A real cluster on this machine: control plane, three nodes (kubelet and containerd each), Services, cluster DNS and
 * storage, all of it in namespaces of its own (see sandbox.ts), so that nothing of it is seen or left outside.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { nodeBinaries } from "../../tools/kube/build.ts";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { applyAddons, DNS_ADDRESS, startKubeProxy } from "./addons.ts";
import { DNS_IMAGE, ECHO_IMAGE, PAUSE_IMAGE, programImage } from "./images.ts";
import { type RealNode, type RealNodeOptions, startKubelet, startRealNode } from "./real-node.ts";
import { type Sandbox, startSandbox } from "./sandbox.ts";

/** The API server's. */
const ADDRESS = "10.90.0.1";

/** Debian's, by the package that brings them. */
const PROGRAMS: Readonly<Record<string, string>> = {
  "/usr/bin/containerd": "containerd",
  "/usr/sbin/runc": "runc",
  "/usr/lib/cni/ptp": "containernetworking-plugins",
  "/usr/bin/buildah": "buildah",
  "/usr/sbin/nft": "nftables",
  "/usr/sbin/conntrack": "conntrack",
  "/usr/sbin/ip": "iproute2",
};

export interface RealCluster {
  readonly sandbox: Sandbox;
  readonly controlPlane: ControlPlane;
  readonly nodes: readonly RealNode[];
  /** Loads docker archives into every node. */
  load(archives: readonly string[]): Promise<void>;
  /** Ends and removes all of it. */
  stop(): Promise<void>;
}

/** Why there can be no such cluster here, or undefined where there can. */
export function whyNoRealCluster(): string | undefined {
  if (process.platform !== "linux") return `nodes are made of Linux namespaces, and this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "nodes need namespaces and control groups of their own, which takes root";
  const packages = Object.entries(PROGRAMS).filter(([path]) => !existsSync(path));
  if (packages.length === 0) return undefined;
  return `nodes need Debian's ${packages.map(([, name]) => name).join(", ")} (or the same from elsewhere)`;
}

/** Resolves when the nodes are Ready; the name server may still be starting. Throws and leaves nothing where one is not. */
export async function startRealCluster(nodeNames: readonly string[]): Promise<RealCluster> {
  const programs = await nodeBinaries();
  const nodes = nodeNames.map(
    (name, index): RealNodeOptions => ({
      name,
      number: index + 1,
      namespace: `node${index + 1}`,
      address: `10.90.0.${11 + index}`,
      subnet: `10.244.${1 + index}.0/24`,
      dnsAddress: DNS_ADDRESS,
      kubelet: programs.kubelet,
    }),
  );
  const sandbox = await startSandbox({
    init: programs.pause,
    address: ADDRESS,
    nodes,
  });
  let controlPlane: ControlPlane | undefined;
  const stop = async () => {
    await controlPlane?.stop();
    await sandbox.stop();
  };
  try {
    const images = join(sandbox.folder, "images");
    const place = { inside: sandbox.inside, address: ADDRESS, forward: sandbox.forward };
    const startNodes = async () => {
      const made: readonly (readonly [string, string])[] = [
        [PAUSE_IMAGE, programs.pause],
        [DNS_IMAGE, programs.coredns],
        [ECHO_IMAGE, programs.echo],
      ];
      const archives: string[] = [];
      for (const [image, program] of made) archives.push(await programImage(images, image, program));
      return Promise.all(
        nodes.map(async (node) => {
          const started = await startRealNode(sandbox, node);
          await started.load(archives);
          return started;
        }),
      );
    };
    const [plane, started] = await Promise.all([startControlPlane({ place }), startNodes()]);
    controlPlane = plane;
    await applyAddons(sandbox, plane, nodeNames);
    await Promise.all(
      nodes.map(async (node) => {
        await startKubeProxy(sandbox, plane, programs.kubeProxy, node);
        await startKubelet(sandbox, plane, node);
      }),
    );
    return {
      sandbox,
      controlPlane: plane,
      nodes: started,
      load: async (archives) => void (await Promise.all(started.map((node) => node.load(archives)))),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
