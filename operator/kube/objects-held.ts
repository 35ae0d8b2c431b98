/** The copy that a reflector keeps: objects by key, an index, and what each change was. Knows nothing of servers. */
import { type KubeObject, keyOf } from "./objects.ts";
import { isOlder } from "./versions.ts";

export type Change =
  | { readonly type: "added"; readonly object: KubeObject }
  | { readonly type: "changed"; readonly object: KubeObject; readonly before: KubeObject }
  | { readonly type: "deleted"; readonly object: KubeObject };

/** Our own handler threw: no weather, so not to be retried. */
export class HandlerFailed extends Error {}

export class ObjectsHeld {
  readonly #objects = new Map<string, KubeObject>();
  /** All of them as a list, until one changes. */
  #list: readonly KubeObject[] | undefined;
  readonly #index = new Map<string, Map<string, KubeObject>>();
  readonly #onChange: (change: Change) => void;
  readonly #indexBy: (object: KubeObject) => string | undefined;
  /** Keys removed while somebody wants to know; see {@link whileNoting}. */
  #noted: Set<string> | undefined;

  constructor(onChange: (change: Change) => void, indexBy: (object: KubeObject) => string | undefined) {
    this.#onChange = onChange;
    this.#indexBy = indexBy;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): KubeObject | undefined {
    return this.#objects.get(key);
  }

  all(): readonly KubeObject[] {
    return (this.#list ??= [...this.#objects.values()]);
  }

  indexed(value: string): readonly KubeObject[] {
    return [...(this.#index.get(value)?.values() ?? [])];
  }

  /**
   * Takes `found` for all there is. `rest` is awaited between any two objects: whoever has taken long lets others have
   * their turn there. What was seen half way is some old and some new, each object by itself, as a watch tells it.
   */
  async replaceAll(found: ReadonlyMap<string, KubeObject>, rest: () => Promise<void> | undefined): Promise<void> {
    for (const key of [...this.#objects.keys()]) {
      if (!found.has(key)) this.remove(key);
      const turn = rest();
      if (turn !== undefined) await turn;
    }
    for (const object of found.values()) {
      this.put(object);
      const turn = rest();
      if (turn !== undefined) await turn;
    }
  }

  put(object: KubeObject): void {
    const key = keyOf(object);
    const before = this.#objects.get(key);
    if (before !== undefined && before.metadata.uid !== object.metadata.uid) {
      this.remove(key); // deleted and made anew while nobody watched: two objects, two stories
      this.put(object);
      return;
    }
    const { resourceVersion } = object.metadata;
    if (before !== undefined && before.metadata.resourceVersion === resourceVersion) return;
    this.#objects.set(key, object);
    this.#list = undefined;
    if (before !== undefined) this.#unindex(key, before);
    const value = this.#indexBy(object);
    if (value !== undefined) {
      const entries = this.#index.get(value) ?? new Map<string, KubeObject>();
      this.#index.set(value, entries.set(key, object));
    }
    this.#tell(before === undefined ? { type: "added", object } : { type: "changed", object, before });
  }

  remove(key: string, last?: KubeObject): void {
    const before = this.#objects.get(key);
    if (before === undefined) return;
    this.#noted?.add(key);
    this.#objects.delete(key);
    this.#list = undefined;
    this.#unindex(key, before);
    this.#tell({ type: "deleted", object: last ?? before });
  }

  /** Does `work`, which is told the keys that are removed until it has ended. One at a time. */
  async whileNoting<T>(work: (removed: ReadonlySet<string>) => Promise<T>): Promise<T> {
    const removed = new Set<string>();
    this.#noted = removed;
    try {
      return await work(removed);
    } finally {
      this.#noted = undefined;
    }
  }

  /**
   * The first thing in which the copy is behind a list that was taken a while ago at `version`, or undefined. What
   * changed since the list is not behind; `removed` are the keys that were removed since.
   */
  behind(listed: readonly KubeObject[], version: string, removed: ReadonlySet<string>): string | undefined {
    const keys = new Set(listed.map(keyOf));
    for (const object of listed) {
      const { metadata } = object;
      const key = keyOf(object);
      const held = this.#objects.get(key);
      if (held === undefined && !removed.has(key)) return `${key} was never seen`;
      if (isOlder(held?.metadata.resourceVersion, metadata.resourceVersion)) return `${key} was seen older than it is`;
    }
    for (const [key, { metadata }] of this.#objects) {
      if (!keys.has(key) && !isOlder(version, metadata.resourceVersion)) return `${key} was not seen to vanish`;
    }
    return undefined;
  }

  #unindex(key: string, object: KubeObject): void {
    const value = this.#indexBy(object);
    const entries = value === undefined ? undefined : this.#index.get(value);
    entries?.delete(key);
    if (value !== undefined && entries?.size === 0) this.#index.delete(value);
  }

  #tell(change: Change): void {
    try {
      this.#onChange(change);
    } catch (cause) {
      throw new HandlerFailed("a change handler threw", { cause });
    }
  }
}
