/** A PostgreSQL server, by URL; for installations whose ledger outlives a machine. */
import { Client, Pool, type PoolClient } from "pg";
import { type Result, ok, refuse } from "../../core/result.ts";
import type { Database, Query, Row } from "./database.ts";

/** Any number will do, as long as nobody else uses it in this database. */
const LOCK_NUMBER = 7_302_911;
const CONNECT_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 60_000;

/**
 * Opens the database at `url` (postgres://user:password@host/database). `StoreInUse` where another ledger has it open.
 * `onLost` hears when the connection that holds the lock breaks: from then on another ledger may write, so the process
 * must end. Throws weather, without the password, where the server cannot be reached.
 */
export async function openPostgres(
  url: string,
  onLost: (why: string) => void,
): Promise<Result<Database, "StoreInUse">> {
  const holder = new Client({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    application_name: "tessellate-ledger-lock",
  });
  let closing = false;
  holder.on("error", (error) => {
    if (!closing) onLost(error.message);
  });
  holder.on("end", () => {
    if (!closing) onLost("the server closed the connection");
  });
  try {
    await holder.connect();
  } catch (error) {
    closing = true;
    throw new Error(`cannot reach the ledger's database at ${withoutPassword(url)}`, { cause: error });
  }
  const locked = await holder.query<{ locked: boolean }>("select pg_try_advisory_lock($1) as locked", [LOCK_NUMBER]);
  if (locked.rows[0]?.locked !== true) {
    closing = true;
    await holder.end();
    return refuse("StoreInUse", `another ledger has the database at ${withoutPassword(url)} open; stop it first`);
  }
  const pool = new Pool({
    connectionString: url,
    max: 4,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    application_name: "tessellate-ledger",
  });
  pool.on("error", () => {}); // an idle connection broke; the next query opens another one, or fails with its reason
  const queryOf =
    (on: Pool | PoolClient): Query =>
    async (text, values = []) =>
      (await on.query<Row>(text, [...values])).rows;
  return ok({
    query: queryOf(pool),
    transaction: (work) => inTransaction(pool, (client) => work(queryOf(client))),
    close: async () => {
      closing = true;
      await pool.end();
      await holder.end();
    },
  });
}

async function inTransaction<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query("begin");
    const value = await work(client);
    await client.query("commit");
    return value;
  } catch (error) {
    await client.query("rollback").catch((failed: unknown) => {
      broken = failed instanceof Error ? failed : new Error(String(failed));
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

/** For messages and logs. */
export function withoutPassword(url: string): string {
  const parsed = URL.parse(url);
  if (parsed === null) return "(an unreadable URL)";
  if (parsed.password !== "") parsed.password = "…";
  return decodeURI(parsed.href);
}
