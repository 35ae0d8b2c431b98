/**
 * What keeps a deposed leader from writing. A lease alone does not: a process that was paused for a minute and goes on
 * believes that it still leads, and its next write is on its way before it has looked. So the API server itself
 * compares: every write of ours bears the epoch in which it is made, as an extra field of the user that makes it, and a
 * ValidatingAdmissionPolicy, whose parameter is the Lease, denies what is not of the Lease's epoch. That covers every
 * verb alike (an annotation would not cover a deletion), changes no object, and stands in the audit log.
 *
 * The user is our own service account, impersonated by itself: the right to do so is granted for that one name.
 *
 * API servers learn of a new epoch over a watch of theirs, within milliseconds. So a new leader proves, before its first
 * act, that a write of the epoch before is denied: from then on no such write takes effect any more at the server that
 * was asked. Where there are several, the others follow on their own, as fast.
 */
import type { OutgoingHttpHeaders } from "node:http";
import type { Clock } from "../../core/clock.ts";
import type { KubeClient } from "./client.ts";
import type { KubeObject } from "./objects.ts";

export type Fence = {
  /** As whom we write: `system:serviceaccount:<namespace>:<name>`. */
  readonly user: string;
  /** How often the lease had changed hands. */
  readonly epoch: number;
};

const EPOCH_KEY = "tessellate.dev/epoch";
const ASK_AGAIN_MS = 10;
const ASK_AGAIN_MS_MAX = 1_000;
/** For requests that had passed the check a moment before, and whose writing is yet to come. */
const SETTLE_MS = 250;
const PROBE_NAME = "tessellate-fence-probe";

export const fenceHeaders = ({ user, epoch }: Fence): OutgoingHttpHeaders => ({
  "impersonate-user": user,
  [`impersonate-extra-${encodeURIComponent(EPOCH_KEY)}`]: String(epoch),
});

/**
 * Resolves once the API server denies writes of the epoch before and takes those of `fence`; from then on `client`
 * bears it. Waits for as long as that is not so, and says why; rejects with the signal's reason.
 */
export async function raiseFence(
  options: {
    readonly client: KubeClient;
    readonly clock: Clock;
    readonly namespace: string;
    readonly onTrouble: (detail: string) => void;
  },
  fence: Fence,
  signal: AbortSignal,
): Promise<void> {
  const { client, clock, onTrouble } = options;
  const before = { ...fence, epoch: fence.epoch - 1 };
  let pauseMs = ASK_AGAIN_MS;
  for (;;) {
    const [old, ours] = await Promise.all([before, fence].map((each) => denialOf(options, each)));
    if (old !== undefined && ours === undefined) break;
    if (pauseMs >= ASK_AGAIN_MS_MAX)
      onTrouble(
        ours === undefined
          ? "a write of an epoch that is over would be taken: install the ValidatingAdmissionPolicy tessellate-fence"
          : `our own write is denied: ${ours}`,
      );
    await clock.sleep(pauseMs, signal);
    pauseMs = Math.min(2 * pauseMs, ASK_AGAIN_MS_MAX);
  }
  await clock.sleep(SETTLE_MS, signal);
  client.bear(fence);
}

/** Why a write by `fence` would not be taken; undefined where it would. Nothing is written. */
async function denialOf(
  { client, namespace }: { readonly client: KubeClient; readonly namespace: string },
  fence: Fence,
): Promise<string | undefined> {
  const path = `/api/v1/namespaces/${namespace}/secrets`;
  const body = { apiVersion: "v1", kind: "Secret", metadata: { name: PROBE_NAME } };
  const call = { method: "POST", path, query: { dryRun: "All" }, body, fence };
  return client.request(call).then(
    () => undefined,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

export type FencePolicyOptions = {
  readonly namespace: string; // of the lease
  readonly lease: string;
  readonly user: string;
};

/**
 * The policy and its binding, as an installation must have them. Where there is no Lease nobody leads, and nothing is
 * denied: that it were would hit everybody's pods, whoever makes them.
 */
export function fencePolicy({ namespace, lease, user }: FencePolicyOptions): readonly KubeObject[] {
  const api = { apiVersion: "admissionregistration.k8s.io/v1" };
  const operations = ["CREATE", "UPDATE", "DELETE"];
  const rule = (group: string, resources: readonly string[]) => ({
    apiGroups: [group],
    apiVersions: ["*"],
    operations,
    resources,
  });
  const metadata = { name: "tessellate-fence" };
  const extra = "request.userInfo.extra";
  return [
    {
      ...api,
      kind: "ValidatingAdmissionPolicy",
      metadata,
      spec: {
        failurePolicy: "Fail",
        paramKind: { apiVersion: "coordination.k8s.io/v1", kind: "Lease" },
        matchConstraints: {
          resourceRules: [
            rule("tessellate.dev", ["*/*"]),
            rule("", ["pods", "secrets", "services"]),
            rule("events.k8s.io", ["events"]),
            rule("policy", ["poddisruptionbudgets"]),
          ],
        },
        matchConditions: [{ name: "by-the-operator", expression: `request.userInfo.username == '${user}'` }],
        variables: [
          {
            name: "epoch",
            expression: `has(${extra}) && '${EPOCH_KEY}' in ${extra} ? ${extra}['${EPOCH_KEY}'][0] : 'none'`,
          },
        ],
        validations: [
          {
            expression:
              "has(params.spec.holderIdentity) && params.spec.holderIdentity != '' && has(params.spec.leaseTransitions) && " +
              "variables.epoch == string(params.spec.leaseTransitions)",
            messageExpression: "'a leader of epoch ' + variables.epoch + ' may not write any more'",
            reason: "Forbidden",
          },
        ],
      },
    },
    {
      ...api,
      kind: "ValidatingAdmissionPolicyBinding",
      metadata,
      spec: {
        policyName: metadata.name,
        validationActions: ["Deny"],
        paramRef: { namespace, name: lease, parameterNotFoundAction: "Allow" },
      },
    },
  ];
}

/** What the service account needs to say in which epoch it writes, and no more. */
export function fenceRights({ namespace, user }: FencePolicyOptions): readonly KubeObject[] {
  const account = user.split(":").at(-1) ?? "";
  const api = { apiVersion: "rbac.authorization.k8s.io/v1" };
  const subjects = [{ kind: "ServiceAccount", name: account, namespace }];
  const roleRef = (kind: string) => ({ apiGroup: "rbac.authorization.k8s.io", kind, name: `${account}-fence` });
  const metadata = { name: `${account}-fence` };
  const inNamespace = { ...metadata, namespace };
  const itself = { apiGroups: [""], resources: ["serviceaccounts"], resourceNames: [account], verbs: ["impersonate"] };
  const epoch = {
    apiGroups: ["authentication.k8s.io"],
    resources: [`userextras/${EPOCH_KEY}`],
    verbs: ["impersonate"],
  };
  return [
    { ...api, kind: "ClusterRole", metadata, rules: [epoch] },
    { ...api, kind: "ClusterRoleBinding", metadata, roleRef: roleRef("ClusterRole"), subjects },
    { ...api, kind: "Role", metadata: inNamespace, rules: [itself] },
    { ...api, kind: "RoleBinding", metadata: inNamespace, roleRef: roleRef("Role"), subjects },
  ];
}
