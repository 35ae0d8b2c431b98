/** The offers that this agent has the signer sign: one for each node, made anew when half of its time is over. */
import { readFileSync } from "node:fs";
import { envelopeBytes } from "../../core/dsse.ts";
import { offerStatement } from "../../core/offer.ts";
import { type Result, ok } from "../../core/result.ts";
import { type Tls, installationOf } from "../../core/wire/tls.ts";
import type { Keys } from "../attest/keys.ts";

const VALID_DAYS = 30;
const DAY_MS = 86_400_000;

export type OfferBook = {
  /** The envelope's bytes; the signer's refusal where it signs none. */
  of(node: string): Promise<Result<Buffer>>;
};

export function offerBook(options: {
  readonly provider: string;
  readonly machine: string;
  readonly tls: Pick<Tls, "files">;
  readonly keys: Keys;
  readonly wallMs: () => number;
}): OfferBook {
  const { provider, machine, tls, keys, wallMs } = options;
  const made = new Map<string, { readonly bytes: Buffer; readonly renewAtMs: number; readonly madeFor: string }>();
  return {
    of: async (node) => {
      const key = await keys.identify();
      if (!key.ok) return key;
      const installation = installationOf(readFileSync(tls.files.caFile));
      // A signer that was started anew may have another key, and an operator another authority.
      const madeFor = `${installation} ${key.value.keyId}`;
      const known = made.get(node);
      if (known?.madeFor === madeFor && wallMs() < known.renewAtMs) return ok(known.bytes);
      const validUntil = new Date(wallMs() + VALID_DAYS * DAY_MS).toISOString().replace(/\.\d+Z$/, "Z");
      const signed = await keys.sign(offerStatement({ provider, node, machine, installation, validUntil }));
      if (!signed.ok) return signed;
      const bytes = Buffer.from(envelopeBytes(signed.value));
      made.set(node, { bytes, renewAtMs: wallMs() + (VALID_DAYS / 2) * DAY_MS, madeFor });
      return ok(bytes);
    },
  };
}
