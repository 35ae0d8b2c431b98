/**
 * Small changes of who holds what. Ends must meet where a chain is to go on, so most moves carry a boundary between
 * holdings along, or fit a site between two boundaries that are there.
 */
import { type Field, type State, endAt, fits, hold, startAt } from "./field.ts";
import type { Seeded } from "../seeded.ts";

export class Moves {
  readonly #field: Field;
  readonly #seeded: Seeded;
  readonly #undo: number[] = []; // site, start, end
  readonly #boundaries: number[] = [];
  readonly #used: number[] = [];
  readonly #marks: Uint8Array;

  constructor(field: Field, seeded: Seeded) {
    this.#marks = new Uint8Array(field.layerCount + 1);
    this.#field = field;
    this.#seeded = seeded;
  }

  /** Changes `state` by one move; false where the one it drew does not fit, and `state` is as it was. */
  change(state: State): boolean {
    this.#undo.length = 0;
    this.#look(state);
    const draw = this.#seeded.unit();
    const done =
      draw < 0.3
        ? this.#place(state)
        : draw < 0.5
          ? this.#shift(state)
          : draw < 0.62
            ? this.#swap(state)
            : draw < 0.74
              ? this.#takeOver(state)
              : draw < 0.86
                ? this.#exchange(state)
                : draw < 0.93
                  ? this.#split(state)
                  : this.#drop(state);
    if (!done) this.undo(state);
    return done && this.#undo.length > 0;
  }

  /** Takes back the last change. */
  undo(state: State): void {
    for (let at = this.#undo.length - 3; at >= 0; at -= 3)
      hold(state, this.#undo[at] ?? 0, this.#undo[at + 1] ?? -1, this.#undo[at + 2] ?? -1);
    this.#undo.length = 0;
  }

  #look(state: State): void {
    const { layerCount } = this.#field;
    this.#used.length = 0;
    const marks = this.#marks;
    marks.fill(0);
    marks[0] = 1;
    marks[layerCount] = 1;
    for (let site = 0; site < this.#field.sites.length; site += 1) {
      const start = startAt(state, site);
      if (start < 0) continue;
      this.#used.push(site);
      marks[start] = 1;
      marks[endAt(state, site)] = 1;
    }
    this.#boundaries.length = 0;
    for (let position = 0; position <= layerCount; position += 1)
      if (marks[position] === 1) this.#boundaries.push(position);
  }

  /** False where it does not fit; rivals of the site give way. */
  #set(state: State, site: number, start: number, end: number): boolean {
    if (!fits(this.#field, site, start, end)) return false;
    for (const rival of this.#field.rivals[site] ?? []) if (startAt(state, rival) >= 0) this.#clear(state, rival);
    this.#undo.push(site, startAt(state, site), endAt(state, site));
    hold(state, site, start, end);
    return true;
  }

  #clear(state: State, site: number): void {
    this.#undo.push(site, startAt(state, site), endAt(state, site));
    hold(state, site, -1, -1);
  }

  #anyOf(list: readonly number[]): number {
    return list[this.#seeded.below(list.length)] ?? 0;
  }

  /** A site to a boundary, forwards or backwards from it, to another boundary where one is in reach. */
  #place(state: State): boolean {
    const site = this.#seeded.below(this.#field.sites.length);
    const longest = this.#field.longest[site] ?? 0;
    const at = this.#anyOf(this.#boundaries);
    const forwards = this.#seeded.below(2) === 0;
    let length = 1 + this.#seeded.below(Math.max(1, longest));
    if (this.#seeded.unit() < 0.7) {
      const reach = this.#boundaries.filter((other) => {
        const distance = forwards ? other - at : at - other;
        return distance > 0 && distance <= longest;
      });
      if (reach.length > 0) length = Math.abs(this.#anyOf(reach) - at);
    }
    return forwards ? this.#set(state, site, at, at + length) : this.#set(state, site, at - length, at);
  }

  /** A boundary by a layer or two, with everybody at it, or with one on each side. */
  #shift(state: State): boolean {
    const at = this.#anyOf(this.#boundaries);
    if (at === 0 || at === this.#field.layerCount) return false;
    const by = (this.#seeded.below(2) === 0 ? 1 : -1) * (this.#seeded.unit() < 0.75 ? 1 : 2);
    const ending = this.#used.filter((site) => endAt(state, site) === at);
    const starting = this.#used.filter((site) => startAt(state, site) === at);
    const all = this.#seeded.unit() < 0.6;
    for (const site of all || ending.length === 0 ? ending : [this.#anyOf(ending)])
      if (!this.#set(state, site, startAt(state, site), at + by)) return false;
    for (const site of all || starting.length === 0 ? starting : [this.#anyOf(starting)])
      if (!this.#set(state, site, at + by, endAt(state, site))) return false;
    return true;
  }

  /** Two sites in each other's place. */
  #swap(state: State): boolean {
    if (this.#used.length < 2) return false;
    const [a, b] = [this.#anyOf(this.#used), this.#anyOf(this.#used)];
    const [startA, endA, startB, endB] = [startAt(state, a), endAt(state, a), startAt(state, b), endAt(state, b)];
    if (a === b || (startA === startB && endA === endB)) return false;
    return this.#set(state, a, startB, endB) && this.#set(state, b, startA, endA);
  }

  /** One that holds something gives its place to another, which leaves its own, or joins it there. */
  #takeOver(state: State): boolean {
    if (this.#used.length === 0) return false;
    const from = this.#anyOf(this.#used);
    const to = this.#seeded.below(this.#field.sites.length);
    if (from === to) return false;
    const [start, end] = [startAt(state, from), endAt(state, from)];
    if (this.#seeded.unit() < 0.5) this.#clear(state, from);
    return this.#set(state, to, start, end);
  }

  /** Two that follow one another change their order, or only the layer where they meet. */
  #exchange(state: State): boolean {
    if (this.#used.length < 2) return false;
    const first = this.#anyOf(this.#used);
    const [start, at] = [startAt(state, first), endAt(state, first)];
    const next = this.#used.filter((site) => startAt(state, site) === at);
    if (next.length === 0) return false;
    const second = this.#anyOf(next);
    const end = endAt(state, second);
    const middle = this.#seeded.unit() < 0.5 ? start + (end - at) : start + 1 + this.#seeded.below(end - start - 1);
    if (this.#seeded.unit() < 0.7)
      return this.#set(state, second, start, middle) && this.#set(state, first, middle, end);
    return this.#set(state, first, start, middle) && this.#set(state, second, middle, end);
  }

  /** A holding gives a part of its layers to another site, or takes over all of a neighbour's. */
  #split(state: State): boolean {
    if (this.#used.length === 0) return false;
    const site = this.#anyOf(this.#used);
    const [start, end] = [startAt(state, site), endAt(state, site)];
    if (this.#seeded.unit() < 0.5) {
      const other = this.#seeded.below(this.#field.sites.length);
      if (other === site || end - start < 2) return false;
      const middle = start + 1 + this.#seeded.below(end - start - 1);
      return this.#seeded.below(2) === 0
        ? this.#set(state, site, start, middle) && this.#set(state, other, middle, end)
        : this.#set(state, site, middle, end) && this.#set(state, other, start, middle);
    }
    const next = this.#used.filter((other) => startAt(state, other) === end);
    if (next.length === 0) return false;
    const gone = this.#anyOf(next);
    const last = endAt(state, gone);
    this.#clear(state, gone);
    return this.#set(state, site, start, last);
  }

  #drop(state: State): boolean {
    if (this.#used.length === 0) return false;
    this.#clear(state, this.#anyOf(this.#used));
    return true;
  }
}
