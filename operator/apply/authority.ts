/**
 * The installation's certificate authority, in a Secret that only the operator may read, and the certificates of those
 * parts that are not made by the operator: their pods wait for these Secrets to appear.
 */
import { X509Certificate } from "node:crypto";
import { AGENT, GATEWAY, type Identity, LEDGER, identityUri } from "../../core/identity.ts";
import { type Authority, createAuthority, loadAuthority } from "../../core/wire/authority.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import { type KubeObject, SECRETS } from "../kube/objects.ts";
import { COMPONENT_LABEL, MANAGED_BY_LABEL, MANAGER } from "./labels.ts";
import { objectAt } from "./rank-state.ts";

const AUTHORITY_SECRET = "tessellate-ca";
const COMPONENT_DAYS = 365;
const RENEW_BEFORE_DAYS = 120;
const DAY_MS = 86_400_000;

/** Reads the authority, or makes it where there is none yet. */
export async function openAuthority(client: KubeClient, namespace: string): Promise<Authority> {
  const place = { namespace, name: AUTHORITY_SECRET };
  const found = await client.find(SECRETS, place);
  if (found !== undefined) return authorityIn(found);
  const made = await createAuthority();
  try {
    await client.create(SECRETS, {
      metadata: { ...place, labels: { "app.kubernetes.io/part-of": "tessellate", [MANAGED_BY_LABEL]: MANAGER } },
      type: "Opaque",
      data: { "ca.crt": base64(made.certificatePem), "ca.key": base64(made.keyPem) },
    });
    return made;
  } catch (error) {
    // Never two authorities: whoever was quicker has made it.
    if (!isStatus(error, 409)) throw error;
    return authorityIn(await client.get(SECRETS, place));
  }
}

/** Certificates of gateway, ledger and node agents: made where missing, of another authority, or soon to expire. */
export async function keepComponentCertificates(
  client: KubeClient,
  namespace: string,
  authority: Authority,
  nowMs: number,
): Promise<void> {
  for (const identity of [GATEWAY, LEDGER, AGENT]) {
    const name = `tessellate-${identity.kind}-tls`;
    const found = await client.find(SECRETS, { namespace, name });
    if (found !== undefined && isGood(found, identity, authority, nowMs)) continue;
    const issued = await authority.issue(identity, { days: COMPONENT_DAYS });
    await client.apply(SECRETS, {
      metadata: {
        name,
        namespace,
        labels: {
          "app.kubernetes.io/part-of": "tessellate",
          [COMPONENT_LABEL]: identity.kind,
          [MANAGED_BY_LABEL]: MANAGER,
        },
      },
      type: "kubernetes.io/tls",
      data: {
        "ca.crt": base64(issued.caPem),
        "tls.crt": base64(issued.certificatePem),
        "tls.key": base64(issued.keyPem),
      },
    });
  }
}

function authorityIn(secret: KubeObject): Promise<Authority> {
  const certificatePem = textIn(secret, "ca.crt");
  const keyPem = textIn(secret, "ca.key");
  if (certificatePem === "" || keyPem === "") {
    throw new Error(
      `Secret ${AUTHORITY_SECRET} lacks ca.crt or ca.key: restore it from a backup, or delete it to have every certificate made anew`,
    );
  }
  return loadAuthority({ certificatePem, keyPem });
}

function isGood(secret: KubeObject, identity: Identity, authority: Authority, nowMs: number): boolean {
  if (textIn(secret, "ca.crt").trim() !== authority.certificatePem.trim()) return false;
  try {
    const certificate = new X509Certificate(textIn(secret, "tls.crt"));
    const leftMs = certificate.validToDate.getTime() - nowMs;
    return (
      leftMs > RENEW_BEFORE_DAYS * DAY_MS && (certificate.subjectAltName ?? "").includes(`URI:${identityUri(identity)}`)
    );
  } catch {
    return false;
  }
}

const base64 = (text: string) => Buffer.from(text).toString("base64");
const textIn = (secret: KubeObject, key: string): string => {
  const value = objectAt(secret, "data")[key];
  return typeof value === "string" ? Buffer.from(value, "base64").toString("utf8") : "";
};
