/**
 * Our CRDs' CEL rules outside an API server. Most have the form `self.matches('…')`, which is read as it stands; the
 * few others have a twin here, keyed by their text, and a test holds that none lacks one. Rules about what an object
 * was before (`oldSelf`) always hold: a file has no past.
 */
import { assert } from "./assert.ts";
import { isJsonObject } from "./json.ts";
import { parseQuantity } from "./quantity.ts";

const MATCHES = /^self((?:[.]\w+)*)[.]matches\('([^']*)'\)$/;

/** Whether `rule`, one of our CRDs' CEL rules, holds for `self`. */
export function ruleHolds(rule: string, self: unknown): boolean {
  const text = normal(rule);
  if (/\boldSelf\b/.test(text)) return true;
  const [, path, pattern] = MATCHES.exec(text) ?? [];
  if (pattern !== undefined) return new RegExp(pattern).test(String(at(self, path ?? "")));
  const twin = TWINS.get(text);
  assert(twin !== undefined, `core/schema-rules.ts has a twin of the rule ${text}`);
  return twin(self);
}

/** Whether {@link ruleHolds} can judge `rule`. */
export function ruleIsKnown(rule: string): boolean {
  const text = normal(rule);
  return /\boldSelf\b/.test(text) || MATCHES.test(text) || TWINS.has(text);
}

const normal = (rule: string) => rule.replace(/\s+/g, " ").trim();

/** `at(value, ".a.b")` is `value.a.b`, or undefined. */
const at = (value: unknown, path: string): unknown =>
  path
    .split(".")
    .filter(Boolean)
    .reduce((found, name) => (isJsonObject(found) ? found[name] : undefined), value);

const has = (value: unknown, field: string) => at(value, `.${field}`) !== undefined;
const texts = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const climbs = (path: unknown) => String(path).split("/").includes("..");
const isAmount = (value: unknown) => {
  if (typeof value !== "number" && typeof value !== "string") return false;
  const found = parseQuantity(value);
  return found.ok && found.value >= 0;
};

const TWINS: ReadonlyMap<string, (self: unknown) => boolean> = new Map<string, (self: unknown) => boolean>([
  [
    "[has(self.path), has(self.url), has(self.huggingFace), has(self.persistentVolumeClaim)] .filter(given, given).size() == 1",
    (self) => ["path", "url", "huggingFace", "persistentVolumeClaim"].filter((field) => has(self, field)).length === 1,
  ],
  [
    "[has(self.path), has(self.url), has(self.huggingFace)].filter(given, given).size() == 1",
    (self) => ["path", "url", "huggingFace"].filter((field) => has(self, field)).length === 1,
  ],
  ["!self.split('/').exists(part, part == '..')", (self) => !climbs(self)],
  [
    "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
    (self) => !String(self).startsWith("/") && !climbs(self),
  ],
  [
    "self.matches('^/[^/]') && !self.split('/').exists(part, part == '..')",
    (self) => /^\/[^/]/.test(String(self)) && !climbs(self),
  ],
  [
    "!has(self.allow) || !has(self.deny) || !self.allow.exists(name, name in self.deny)",
    (self) => !texts(at(self, ".allow")).some((name) => texts(at(self, ".deny")).includes(name)),
  ],
  [
    "[has(self.throughput), has(self.latency), has(self.price)].filter(given, given).size() == 1",
    (self) => ["throughput", "latency", "price"].filter((field) => has(self, field)).length === 1,
  ],
  [
    "!has(self.edges) || !has(self.providers.deny) || !self.edges.providers.exists(name, name in self.providers.deny)",
    (self) => !texts(at(self, ".edges.providers")).some((name) => texts(at(self, ".providers.deny")).includes(name)),
  ],
  [
    "!has(self.edges) || !has(self.providers.allow) || self.providers.allow.size() == 0 || self.edges.providers.exists(name, name in self.providers.allow)",
    (self) => {
      const allowed = texts(at(self, ".providers.allow"));
      const edges = texts(at(self, ".edges.providers"));
      return !has(self, "edges") || allowed.length === 0 || edges.some((name) => allowed.includes(name));
    },
  ],
  [
    "!has(self.edges) || !has(self.surviveProviders) || self.surviveProviders == 0 || self.edges.providers.size() > 1",
    (self) => !has(self, "edges") || !at(self, ".surviveProviders") || texts(at(self, ".edges.providers")).length > 1,
  ],
  [
    "!has(self.placement.surviveProviders) || self.replicas == 0 || self.replicas > self.placement.surviveProviders",
    (self) => {
      const replicas = Number(at(self, ".replicas"));
      return replicas === 0 || replicas > Number(at(self, ".placement.surviveProviders") ?? -1);
    },
  ],
  [
    "!has(self.placement.maxPricePerHour) || !has(self.objective) || !has(self.objective.latency) || !has(self.objective.latency.maxPricePerHour)",
    (self) => !has(self, "placement.maxPricePerHour") || !has(self, "objective.latency.maxPricePerHour"),
  ],
  [
    "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
    (self) => has(self, "key") || at(self, ".operator") === "Exists",
  ],
  [
    "!has(self.maxSurge) || self.maxSurge > 0 || (has(self.maxUnavailable) && self.maxUnavailable > 0)",
    (self) => Number(at(self, ".maxSurge") ?? 1) > 0 || Number(at(self, ".maxUnavailable") ?? 0) > 0,
  ],
  [
    "!has(self.gpuResource) || !has(self.deviceClass)",
    (self) => !has(self, "gpuResource") || !has(self, "deviceClass"),
  ],
  ["self.start < self.end", (self) => Number(at(self, ".start")) < Number(at(self, ".end"))],
  [
    "type(self) == int ? int(self) >= 0 : isQuantity(string(self)) && !quantity(string(self)).isLessThan(quantity('0'))",
    isAmount,
  ],
  [
    "self.matches('^unix:/[^/]') || self.matches('^[^:/]+:[0-9]{1,5}$')",
    (self) => /^unix:\/[^/]/.test(String(self)) || /^[^:/]+:[0-9]{1,5}$/.test(String(self)),
  ],
  [
    "has(self.epoch) != (has(self.latest) && self.latest)",
    (self) => has(self, "epoch") !== (at(self, ".latest") === true),
  ],
]);
