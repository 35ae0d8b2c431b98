/** Reading a config.json field by field: the first thing that is wrong is kept, and named with what was expected. */
import { type JsonObject, shown } from "./json.ts";
import type { ModelConfigCode } from "./model-config.ts";
import { type Refusal, refuse } from "./result.ts";

/** Reads fields of an object and remembers the first refusal, so that a parse reads as a list of its fields. */
export class Fields {
  readonly json: JsonObject;
  readonly #prefix: string;
  readonly #outer: Fields | undefined;
  #refusal: Refusal<ModelConfigCode> | undefined;

  constructor(json: JsonObject, prefix = "", outer?: Fields) {
    this.json = json;
    this.#prefix = prefix;
    this.#outer = outer;
  }

  get refusal(): Refusal<ModelConfigCode> | undefined {
    return this.#refusal;
  }

  /** The fields of an object inside this one; what is wrong there is told here. */
  within(json: JsonObject, prefix: string): Fields {
    return new Fields(json, this.#prefix + prefix, this);
  }

  refuse(code: ModelConfigCode, detail: string): void {
    this.#keep(refuse(code, `config.json: ${this.#prefix}${detail}`));
  }

  #keep(refusal: Refusal<ModelConfigCode>): void {
    this.#refusal ??= refusal;
    if (this.#outer !== undefined) this.#outer.#keep(refusal);
  }

  /** A whole number in [1, max]. */
  integer(name: string, { absent, max = 2 ** 31 - 1 }: { absent?: number; max?: number } = {}): number {
    const value = this.json[name] ?? absent;
    if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= max) return value;
    this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected a whole number from 1 to ${max}`);
    return 1;
  }

  /** As {@link integer}; undefined where the key is absent or null. */
  optionalInteger(name: string): number | undefined {
    return (this.json[name] ?? undefined) === undefined ? undefined : this.integer(name);
  }

  /** A whole number from 0. */
  count(name: string, absent: number): number {
    const value = this.json[name] ?? absent;
    if (isCount(value)) return value;
    this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected a whole number from 0`);
    return absent;
  }

  /** A list of whole numbers from 0; empty where the key is absent or null. */
  counts(name: string): readonly number[] {
    const value = this.json[name] ?? [];
    if (Array.isArray(value) && value.every(isCount)) return value;
    this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected a list of whole numbers from 0`);
    return [];
  }

  /** A list of `count` finite numbers above zero. */
  positives(name: string, count: number): readonly number[] {
    const value = this.json[name];
    if (Array.isArray(value) && value.length === count && value.every(isPositive)) return value;
    this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected ${count} numbers above 0`);
    return [];
  }

  /** A finite number above zero. */
  positive(name: string, absent?: number): number {
    return this.optionalPositive(name) ?? absent ?? this.#noNumber(name);
  }

  /** A finite number above zero; undefined where the key is absent or null. */
  optionalPositive(name: string): number | undefined {
    const value = this.json[name] ?? undefined;
    if (value === undefined) return undefined;
    if (isPositive(value)) return value;
    return this.#noNumber(name);
  }

  #noNumber(name: string): number {
    this.refuse("MalformedConfig", `${name} is ${shown(this.json[name])}, expected a number above 0`);
    return 1;
  }

  flag(name: string, absent = false): boolean {
    const value = this.json[name] ?? absent;
    if (typeof value === "boolean") return value;
    this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected true or false`);
    return false;
  }

  /** One id, several or none (null). An absent key means `absent`. Ids outside the vocabulary can never come, so they drop out. */
  tokenIds(name: string, absent: number | null, vocabularySize: number): readonly number[] {
    const value = this.json[name] === undefined ? absent : this.json[name];
    const ids: readonly unknown[] = Array.isArray(value) ? value : value === null ? [] : [value];
    const whole = ids.filter((id): id is number => typeof id === "number" && Number.isInteger(id));
    if (whole.length < ids.length)
      this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected a token id, a list of them or null`);
    return whole.filter((id) => id >= 0 && id < vocabularySize);
  }
}

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 31;

const isPositive = (value: unknown): value is number =>
  typeof value === "number" && Number.isFinite(value) && value > 0;
