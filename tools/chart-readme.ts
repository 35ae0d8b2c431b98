/** The chart's README: its values as values.yaml sets them, in the words of values.schema.json. */
import { parse } from "yaml";

type Schema = {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
};
type Row = { readonly path: string; readonly fallback: string; readonly description: string };

/** Throws where a value has no description, or a description no value: the README must not keep either from anybody. */
export function chartReadme(chartYaml: string, valuesYaml: string, schemaJson: string, head: string): string {
  const { name, description, version } = parse(chartYaml);
  const schema: Schema = JSON.parse(schemaJson);
  const groups = Object.entries(schema.properties ?? {}).filter(([key]) => key !== "global");
  const values = parse(valuesYaml);
  for (const key of Object.keys(values))
    if (schema.properties?.[key] === undefined) throw new Error(`values.yaml has ${key}, values.schema.json has not`);
  const alone = groups.filter(([, { properties }]) => properties === undefined);
  const sections = groups.filter(([, { properties }]) => properties !== undefined);
  const tables = [
    `## Everywhere\n\n${table(alone.flatMap(([key, each]) => rowsOf(key, each, values[key])))}`,
    ...sections.map(([key, each]) => `## ${key}\n\n${each.description}\n\n${table(rowsOf(key, each, values[key]))}`),
  ];
  const title = `# ${name} ${version}\n\n${description}`;
  return `${[title, head.trim(), ...tables].join("\n\n")}\n`;
}

function rowsOf(path: string, schema: Schema, value: unknown): readonly Row[] {
  const { description, properties } = schema;
  if (description === undefined) throw new Error(`values.schema.json does not describe ${path}`);
  if (value === undefined) throw new Error(`values.schema.json has ${path}, values.yaml has not`);
  if (properties === undefined) return [{ path, fallback: JSON.stringify(value), description }];
  const known = value as Readonly<Record<string, unknown>>;
  for (const key of Object.keys(known))
    if (properties[key] === undefined) throw new Error(`values.yaml has ${path}.${key}, values.schema.json has not`);
  return Object.entries(properties).flatMap(([key, each]) => rowsOf(`${path}.${key}`, each, known[key]));
}

const table = (rows: readonly Row[]): string =>
  ["| value | default | |", "|---|---|---|"]
    .concat(rows.map(({ path, fallback, description }) => `| \`${path}\` | \`${fallback}\` | ${cell(description)} |`))
    .join("\n");

/** A bar would end the cell. */
const cell = (text: string): string => text.replaceAll("|", "\\|");
