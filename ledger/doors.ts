/** The ledger's doors to the weather. Only `main.ts` and tests construct them. */
export type WallClock = { readonly nowSeconds: () => number }; // Unix time, whole seconds

/** One line of the process's log. Keys and passwords never go in. */
export type Log = (event: string, fields: Readonly<Record<string, string | number | boolean>>) => void;
