/**
 * The door to SQL: one dialect, PostgreSQL's, from an embedded PGlite in a directory or from a server. The ledger is the
 * only writer of its database; a second one is refused instead of counting everything twice.
 */
export type Row = { readonly [column: string]: unknown };

export type Query = (text: string, values?: readonly unknown[]) => Promise<readonly Row[]>;

export type Database = {
  readonly query: Query;
  /** All or nothing. What `work` throws undoes everything and is thrown on. */
  transaction<T>(work: (query: Query) => Promise<T>): Promise<T>;
  close(): Promise<void>;
};
