/**
 * The services of `/proto`, loaded at start with one set of options, so that client and server agree on names (camelCase),
 * 64-bit integers (decimal strings), bytes (Buffer) and absent fields (their defaults).
 *
 * core/wire is the one corner of core that is not pure: every process dials and serves the same way, and doing it once is
 * worth the exception.
 */
import { fileURLToPath } from "node:url";
import { loadPackageDefinition } from "@grpc/grpc-js";
import { type PackageDefinition, loadSync } from "@grpc/proto-loader";
import { present } from "../assert.ts";
import type { ProtoGrpcType as AgentTypes } from "../gen/proto/agent.ts";
import type { ProtoGrpcType as ControlTypes } from "../gen/proto/control.ts";
import type { ProtoGrpcType as LedgerTypes } from "../gen/proto/ledger.ts";
import type { ProtoGrpcType as ShardTypes } from "../gen/proto/shard.ts";
import type { ProtoGrpcType as SignerTypes } from "../gen/proto/signer.ts";

type Services = {
  readonly ShardRuntime: ShardTypes["tessellate"]["shard"]["v1"]["ShardRuntime"];
  readonly Signer: SignerTypes["tessellate"]["signer"]["v1"]["Signer"];
  readonly Control: ControlTypes["tessellate"]["control"]["v1"]["Control"];
  readonly Ledger: LedgerTypes["tessellate"]["ledger"]["v1"]["Ledger"];
  readonly NodeAgent: AgentTypes["tessellate"]["agent"]["v1"]["NodeAgent"];
};
export type ServiceName = keyof Services;

/** The client type of a service: `Client<"ShardRuntime">`. */
export type Client<Name extends ServiceName> = InstanceType<Services[Name]>;

const FILES: Readonly<Record<ServiceName, string>> = {
  ShardRuntime: "shard",
  Signer: "signer",
  Control: "control",
  Ledger: "ledger",
  NodeAgent: "agent",
};
const PROTO_DIRECTORY = fileURLToPath(new URL("../../proto/", import.meta.url));
const loaded = new Map<ServiceName, PackageDefinition>();
const constructors = new Map<ServiceName, Services[ServiceName]>();

/** Everything that a service's proto file declares; for reflection and for {@link loadService}. */
export function packageOf(name: ServiceName): PackageDefinition {
  const known = loaded.get(name);
  if (known !== undefined) return known;
  const definition = loadSync(`tessellate/${FILES[name]}/v1/${FILES[name]}.proto`, {
    keepCase: false,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
    includeDirs: [PROTO_DIRECTORY],
  });
  loaded.set(name, definition);
  return definition;
}

/** `tessellate.shard.v1.ShardRuntime` for `ShardRuntime`: the name that health checks and reflection know. */
export const fullNameOf = (name: ServiceName): string => `tessellate.${FILES[name]}.v1.${name}`;

/**
 * The client constructor of a service; its `.service` is the definition that a server adds. Methods go by their names in
 * the proto file (`client.Close(…)`), `client.close()` closes the client.
 */
export function loadService<Name extends ServiceName>(name: Name): Services[Name] {
  const known = constructors.get(name);
  if (known !== undefined) return known as Services[Name];
  const root: unknown = loadPackageDefinition(packageOf(name));
  const found = fullNameOf(name)
    .split(".")
    .reduce<unknown>(
      (at, key) => present((at as Record<string, unknown>)[key], `/proto declares ${fullNameOf(name)}`),
      root,
    );
  const made = found as Services[Name]; // generated from the same file
  // grpc-js also adds every method under its camelCase name: a method `Close` would hide the client's own close().
  Reflect.deleteProperty(made.prototype, "close");
  constructors.set(name, made);
  return made;
}
