/** The bill of materials of an image, as CycloneDX 1.6 in JSON: our own code, npm packages, Node, Debian packages. */
import type { DebianPackage } from "./base.ts";
import type { LockedPackage } from "./packages.ts";

export type Materials = {
  readonly image: string; // tessellate-operator
  readonly description: string;
  readonly version: string;
  readonly nodeVersion: string;
  readonly packages: readonly LockedPackage[];
  /** Names of those that our own sources import. */
  readonly imported: readonly string[];
  readonly debian: readonly DebianPackage[];
  /** What the image was built on, where that was not made here. */
  readonly foreignBase?: string;
};

/** The same materials give the same bytes: no time, no random serial number. */
export function billOfMaterials(materials: Materials): string {
  const { image, version, description, packages, imported, debian, foreignBase, nodeVersion } = materials;
  const own = { type: "application", "bom-ref": image, name: image, version, description, licenses: apache };
  const node = {
    type: "platform",
    "bom-ref": `pkg:generic/node@${nodeVersion}`,
    name: "node",
    version: nodeVersion,
    purl: `pkg:generic/node@${nodeVersion}`,
    licenses: [{ license: { id: "MIT" } }],
  };
  const base = foreignBase === undefined ? [] : [{ type: "container", "bom-ref": "base", name: foreignBase }];
  const direct = packages.filter(({ path, name }) => path === `node_modules/${name}` && imported.includes(name));
  const document = {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: { component: own },
    components: [node, ...base, ...packages.map(npmComponent), ...debian.map(debianComponent)],
    dependencies: [
      { ref: image, dependsOn: [node["bom-ref"], ...direct.map(({ path }) => path)] },
      ...packages.map(({ path, dependsOn }) => ({ ref: path, dependsOn: [...new Set(dependsOn)].sort() })),
    ],
  };
  return `${JSON.stringify(document, undefined, 1)}\n`;
}

const apache = [{ license: { id: "Apache-2.0" } }];

/** A scope's @ is written %40 in a package URL. */
const npmPurl = (name: string, version: string): string => `pkg:npm/${name.replace("@", "%40")}@${version}`;

function npmComponent({ path, name, version, integrity, licence }: LockedPackage): object {
  const [, algorithm, digest] = /^(sha\d+)-(.+)$/.exec(integrity ?? "") ?? [];
  return {
    type: "library",
    "bom-ref": path,
    name,
    version,
    purl: npmPurl(name, version),
    ...(licence === undefined ? {} : { licenses: [{ expression: licence }] }),
    ...(digest === undefined
      ? {}
      : {
          hashes: [{ alg: algorithm?.replace("sha", "SHA-"), content: Buffer.from(digest, "base64").toString("hex") }],
        }),
  };
}

const debianComponent = ({ name, version, architecture }: DebianPackage): object => {
  const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`;
  return { type: "library", "bom-ref": purl, name, version, purl };
};
