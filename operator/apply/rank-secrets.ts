/**
 * The Secrets that ranks mount. One holds what the ranks of one chain and one provider are told when they are made
 * together; one that is made later, while others mount that, gets one of its own, so that it never waits until a kubelet
 * has seen a Secret change that its other pods mount. Each pod mounts its own rank's files and no other's. Why a provider
 * and not a model: docs/decisions/0012-ranks-of-one-provider-share-a-secret.md.
 */
import { digestOf } from "../../core/digest.ts";
import { isJsonObject } from "../../core/json.ts";
import type { RankConfig } from "../../core/rank-config.ts";
import type { IssuedCertificate } from "../../core/wire/authority.ts";
import type { KubeObject } from "../kube/objects.ts";
import { rankName } from "../plan/names.ts";
import type { Assignment, ModelSpec } from "../plan/types.ts";
import { CHAIN_LABEL, COMPONENT_LABEL, PROVIDER_LABEL, modelLabels } from "./labels.ts";
import { ownerOf } from "./owner.ts";

/** A Secret holds a mebibyte; what one rank is told is a few kilobytes, and grows with its neighbours. */
export const SHARED_COUNT_MAX = 64;
const NAME_LENGTH_MAX = 253;
/** What the pod calls the volume. */
export const CONFIG_VOLUME = "config";

/** What one rank is told. */
export type Told = {
  readonly assignment: Assignment;
  readonly config: RankConfig;
  readonly issued: IssuedCertificate;
};

/** `<model>-<chain>.<provider>`: no model has a dot in its name, so no rank has its own Secret called so. */
export function sharedSecretName(
  model: Pick<ModelSpec, "name">,
  { chain, provider }: Pick<Assignment, "chain" | "provider">,
): string {
  const name = `${model.name}-${chain}.${provider}`;
  return name.length <= NAME_LENGTH_MAX ? name : `${model.name}-${chain}.${digestOf(Buffer.from(provider)).slice(-40)}`;
}

/** Of a rank that is told apart from the others. */
export const ownSecretName = rankName;

/** `told`: one at least, of one chain and one provider. */
export function rankSecret(model: ModelSpec, name: string, told: readonly [Told, ...Told[]]): KubeObject {
  const { chain, provider } = told[0].assignment;
  return {
    metadata: {
      name,
      namespace: model.namespace,
      labels: {
        ...modelLabels(model),
        [COMPONENT_LABEL]: "rank",
        [CHAIN_LABEL]: String(chain),
        [PROVIDER_LABEL]: provider,
      },
      ownerReferences: [ownerOf(model)],
    },
    type: "Opaque",
    data: Object.assign({}, ...told.map((each) => filesOf(each, keysFor(rankName(model, each.assignment))))),
  };
}

type Keys = { readonly config: string; readonly authority: string; readonly certificate: string; readonly key: string };

const keysFor = (rank: string): Keys => ({
  config: `${rank}.json`,
  authority: "ca.crt",
  certificate: `${rank}.crt`,
  key: `${rank}.key`,
});

/** As they are called in the pod; until 0.2.0 in the Secret, too, which was one rank's alone. */
const FILES: Keys = { config: "rank.json", authority: "ca.crt", certificate: "tls.crt", key: "tls.key" };

const filesOf = (
  { config, issued }: Pick<Told, "config" | "issued">,
  keys: Keys,
): Readonly<Record<string, string>> => ({
  [keys.config]: base64(`${JSON.stringify(config)}\n`),
  [keys.authority]: base64(issued.caPem),
  [keys.certificate]: base64(issued.certificatePem),
  [keys.key]: base64(issued.keyPem),
});

/** The rank's files of a Secret, and nothing else that is in it. */
export function secretVolume(secretName: string, rank: string): { readonly secret: object } {
  const keys = keysFor(rank);
  const items = [
    { key: keys.config, path: FILES.config },
    { key: keys.authority, path: FILES.authority },
    { key: keys.certificate, path: FILES.certificate },
    { key: keys.key, path: FILES.key },
  ];
  return { secret: { secretName, items, defaultMode: 0o440 } };
}

/** The Secret that a rank's pod mounts; undefined where it mounts none. */
export function secretOf(pod: KubeObject): string | undefined {
  const name = field(configOf(pod), "secretName");
  return typeof name === "string" ? name : undefined;
}

/** Names of all Secrets that these pods mount. */
export const secretsOf = (pods: readonly KubeObject[]): ReadonlySet<string> =>
  new Set(pods.flatMap((pod) => secretOf(pod) ?? []));

/** What is to be patched in the Secret that the pod mounts, for it to be told this; other ranks' files stay. */
export function renewed(pod: KubeObject, told: Pick<Told, "config" | "issued">): { readonly data: object } {
  const isAlone = field(configOf(pod), "items") === undefined;
  return { data: filesOf(told, isAlone ? FILES : keysFor(pod.metadata.name)) };
}

function configOf(pod: KubeObject): unknown {
  const volumes = field(pod["spec"], "volumes");
  const volume = Array.isArray(volumes) ? volumes.find((each) => field(each, "name") === CONFIG_VOLUME) : undefined;
  return field(volume, "secret");
}

const field = (value: unknown, name: string): unknown => (isJsonObject(value) ? value[name] : undefined);

const base64 = (text: string): string => Buffer.from(text).toString("base64");
