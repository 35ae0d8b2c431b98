/**
 * Where the files of a model lie: from a source and a path to the folder or URL that has the bytes. No byte is fetched
 * here, so that operator, planner and rank say the same place.
 */
import type { ModelSource } from "./rank-config.ts";
import { type Result, ok, refuse } from "./result.ts";

/** Where the operator mounts a persistentVolumeClaim into a rank. */
export const CLAIM_MOUNT = "/var/lib/tessellate/model";

const HUB = "https://huggingface.co";

/** A source with all defaults filled in. `shown` is safe to print: it holds no query and no credentials. */
export type Place =
  | { readonly kind: "folder"; readonly directory: string; readonly shown: string }
  | { readonly kind: "http"; readonly base: URL; readonly isHub: boolean; readonly shown: string };

export type SourceCode = "MalformedSource";

/** Refuses (`MalformedSource`) what no file could be read from, naming the field. */
export function placeOf(source: ModelSource): Result<Place, SourceCode> {
  if ("path" in source) return folder(source.path, "path");
  if ("persistentVolumeClaim" in source) {
    const inside = source.persistentVolumeClaim.path ?? "";
    if (inside.split("/").includes(".."))
      return refuse(
        "MalformedSource",
        `persistentVolumeClaim.path ${JSON.stringify(inside)} leaves the claim; remove the ".."`,
      );
    return folder(
      inside === "" ? CLAIM_MOUNT : `${CLAIM_MOUNT}/${inside.replace(/^\/+/, "")}`,
      "persistentVolumeClaim.path",
    );
  }
  if ("url" in source) return http(source.url, "url", false);
  return hub(source.huggingFace);
}

/** The URL of a file. The query of the base (such as a signed token of an object store) stays. */
export function urlOf(place: Extract<Place, { kind: "http" }>, path: string): URL {
  const url = new URL(place.base);
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/${encoded}`;
  return url;
}

/** The place of a file as it is shown to people: without query. */
export const shownFile = (place: Place, path: string): string => `${place.shown}/${path}`;

/** Headers of a request to the place. A hub's token goes to hubs only, never to a plain URL. */
export function headersOf(
  place: Extract<Place, { kind: "http" }>,
  hubToken?: string,
): Readonly<Record<string, string>> {
  return place.isHub && hubToken !== undefined ? { authorization: `Bearer ${hubToken}` } : {};
}

function folder(directory: string, field: string): Result<Place, SourceCode> {
  if (directory === "" || directory.includes("\0"))
    return refuse("MalformedSource", `${field} is ${JSON.stringify(directory)}, expected a folder`);
  return ok({ kind: "folder", directory, shown: directory.replace(/\/+$/, "") || "/" });
}

function http(text: string, field: string, isHub: boolean): Result<Extract<Place, { kind: "http" }>, SourceCode> {
  const base = URL.parse(text);
  if (base === null || !/^https?:$/.test(base.protocol))
    return refuse("MalformedSource", `${field} is not an http:// or https:// URL`);
  if (base.username !== "" || base.password !== "")
    return refuse(
      "MalformedSource",
      `${field} holds a user name or password; sources are shown in plans, so leave it out`,
    );
  base.hash = "";
  return ok({ kind: "http", base, isHub, shown: `${base.origin}${base.pathname.replace(/\/+$/, "")}` });
}

/** The hub's layout: `<endpoint>/<owner>/<name>/resolve/<revision>/<path>`; a revision may hold slashes (refs/pr/1). */
function hub(repository: Extract<ModelSource, { huggingFace: unknown }>["huggingFace"]): Result<Place, SourceCode> {
  const { repo, revision, endpoint = HUB } = repository;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)?$/.test(repo))
    return refuse("MalformedSource", `huggingFace.repo is ${JSON.stringify(repo)}, expected owner/name`);
  if (!/^[A-Za-z0-9][A-Za-z0-9._/-]*$/.test(revision) || revision.includes(".."))
    return refuse(
      "MalformedSource",
      `huggingFace.revision is ${JSON.stringify(revision)}, expected a branch, tag or commit`,
    );
  const root = http(endpoint, "huggingFace.endpoint", true);
  if (!root.ok) return root;
  const base = urlOf(root.value, `${repo}/resolve/x`);
  base.pathname = base.pathname.replace(/x$/, encodeURIComponent(revision));
  return ok({ kind: "http", base, isHub: true, shown: `${base.origin}${base.pathname}` });
}
