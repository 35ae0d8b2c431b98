/**
 * Who of several ranks fetches a stretch of a model from its source, so that all of them together fetch it once. Pure:
 * every rank works out the same order by itself (rendezvous hashing), and a rank that comes or goes changes little.
 */
import { digestOf } from "../../core/digest.ts";

export type AskingOrder = {
  readonly before: readonly string[]; // to be asked to fetch it, in order, before this rank does so itself
  readonly after: readonly string[]; // to be asked whether they happen to have it
};

/** For one stretch, by ranks' names; `stretch` names it alike on all of them. */
export function askingOrder(own: string, fellows: readonly string[], stretch: string): AskingOrder {
  const encoder = new TextEncoder();
  const weighed = [own, ...fellows]
    .map((name) => ({ name, weight: digestOf(encoder.encode(`${name}\0${stretch}`)) }))
    .toSorted((a, b) => (a.weight < b.weight ? -1 : 1))
    .map(({ name }) => name);
  const place = weighed.indexOf(own);
  return { before: weighed.slice(0, place), after: weighed.slice(place + 1) };
}
