/** What lies between two nodes: as measured from either, else what is usual for where they stand. */
import type { NodeFacts, NodeLink } from "../types.ts";
import { isLongAgo } from "./speed.ts";

export type LinkSpeed = {
  readonly roundTripSeconds: number;
  readonly bytesPerSecond: number;
  readonly isEstimated: boolean;
};

/** `NodeLink.to` of the way to the gateways. */
export const GATEWAY_LINK = "gateway";

type End = Pick<NodeFacts, "name" | "provider" | "machine" | "region" | "links" | "measuredDaysAgo">;
type Assumed = Omit<LinkSpeed, "isEstimated">;

const SAME_MACHINE: Assumed = { roundTripSeconds: 0.0005, bytesPerSecond: 1e9 };
/** One machine room: 10 Gbit/s. */
const SAME_ROOM: Assumed = { roundTripSeconds: 0.0007, bytesPerSecond: 1.25e9 };
/** Two owners in one region, or nobody knows where: 1 Gbit/s. */
const SAME_REGION: Assumed = { roundTripSeconds: 0.005, bytesPerSecond: 125e6 };
/** Between regions: 100 Mbit/s. */
const APART: Assumed = { roundTripSeconds: 0.05, bytesPerSecond: 12.5e6 };

/** From one node to another. Links are taken for alike in both directions where only one was measured. */
export function linkBetween(from: End, to: End): LinkSpeed {
  const own = linkTo(from.links, to.name);
  const measured = own ?? linkTo(to.links, from.name);
  if (measured !== undefined) return speedOfLink(measured, own === undefined ? to : from);
  if (from.name === to.name || (from.machine !== undefined && from.machine === to.machine))
    return { ...SAME_MACHINE, isEstimated: from.name !== to.name };
  const regionsKnown = from.region !== undefined && to.region !== undefined;
  if (regionsKnown && from.region !== to.region) return { ...APART, isEstimated: true };
  return { ...(from.provider === to.provider ? SAME_ROOM : SAME_REGION), isEstimated: true };
}

/** Between a node and the gateways, either way. */
export function gatewayLink(node: End): LinkSpeed {
  const measured = linkTo(node.links, GATEWAY_LINK);
  return measured === undefined ? { ...SAME_REGION, isEstimated: true } : speedOfLink(measured, node);
}

const linkTo = (links: readonly NodeLink[] | undefined, name: string): NodeLink | undefined =>
  links?.find(({ to }) => to === name);

const speedOfLink = ({ roundTripMicros, bytesPerSecond }: NodeLink, by: End): LinkSpeed => ({
  roundTripSeconds: roundTripMicros / 1e6,
  bytesPerSecond,
  isEstimated: isLongAgo(by),
});

/** Seconds until `byteCount` bytes are at the other end. */
export const tripSeconds = ({ roundTripSeconds, bytesPerSecond }: LinkSpeed, byteCount: number): number =>
  roundTripSeconds / 2 + byteCount / bytesPerSecond;
