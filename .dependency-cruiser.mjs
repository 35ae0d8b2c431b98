/**
 * Imports form a star: everything may import core/; a package imports itself and core/, nothing else. test/ imports
 * all; cli/ may import the packages' pure folders and their entries. Inside a package: pure ← ports ← adapters ← main.
 */
const packages = ["operator", "shard-runtime", "gateway", "ledger"];

/** Pure folders, the folders whose functions are the commands themselves, and each package's entry. */
const MAY_BE_CALLED = [
  "^operator/(plan|local|manifest)/",
  "^shard-runtime/(weights|schedule|engine|attest)/",
  "^shard-runtime/(evaluate|measure)\\.ts$",
  "^(gateway/route|ledger/rules)/",
  "/(main|index)\\.ts$",
];

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    { name: "no-circular", severity: "error", from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } } },
    {
      name: "core-imports-none-of-ours",
      severity: "error",
      from: { path: "^core/" },
      to: { path: "^(operator|shard-runtime|gateway|ledger|cli|test|tools)/" },
    },
    {
      name: "core-is-pure-but-for-the-wire",
      severity: "error",
      from: { path: "^core/(?!wire/|gen/)", pathNot: "\\.test\\.ts$" },
      to: { path: "^core/wire/" },
    },
    ...packages.map((name) => ({
      name: `${name}-meets-the-others-over-the-wire`,
      severity: "error",
      from: { path: `^${name}/`, pathNot: "\\.test\\.ts$" },
      to: { path: `^(${packages.filter((other) => other !== name).join("|")}|cli|test|tools)/` },
    })),
    {
      name: "cli-takes-pure-folders-and-entries",
      severity: "error",
      from: { path: "^cli/", pathNot: "\\.test\\.ts$" },
      to: {
        path: "^(operator|shard-runtime|gateway|ledger)/",
        pathNot: MAY_BE_CALLED,
      },
    },
    {
      name: "engine-knows-no-sockets",
      severity: "error",
      from: { path: "^shard-runtime/engine/", pathNot: "\\.test\\.ts$" },
      to: { path: "^(shard-runtime/(transport|attest)/|core/wire/)" },
    },
    { name: "nothing-unresolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
    {
      name: "no-test-library-in-the-product",
      severity: "error",
      from: { path: "^(core|operator|shard-runtime|gateway|ledger|cli)/", pathNot: "\\.test\\.ts$" },
      to: { path: "node_modules/(mocha|chai|fast-check|openai)/" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^node_modules/.*" },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default"],
      extensions: [".ts", ".mjs", ".js", ".json"],
    },
  },
};
