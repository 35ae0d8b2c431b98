export function crdModules(_sources: readonly { readonly name: string; readonly text: string }[]) {
  return [] as { path: string; text: string }[];
}
