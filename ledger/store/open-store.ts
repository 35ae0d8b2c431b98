/** From `--store` to a store whose tables are up to date. */
import { type Result, ok, refuse } from "../../core/result.ts";
import type { Database } from "./database.ts";
import { migrate } from "./migrations.ts";
import { openPglite } from "./pglite-database.ts";
import { openPostgres } from "./postgres-database.ts";
import { Store } from "./store.ts";

/** `pglite:DIR` or `postgres://…`. `onLost`: see openPostgres. Throws weather where the database cannot be reached. */
export async function openStore(
  url: string,
  onLost: (why: string) => void,
): Promise<Result<Store, "BadRequest" | "StoreInUse">> {
  const database = await openDatabase(url, onLost);
  return database.ok ? ok(await storeOn(database.value)) : database;
}

function openDatabase(
  url: string,
  onLost: (why: string) => void,
): Promise<Result<Database, "BadRequest" | "StoreInUse">> {
  const directory = /^pglite:(.+)$/.exec(url)?.[1];
  if (directory !== undefined) return openPglite(directory);
  if (/^postgres(ql)?:\/\//.test(url)) return openPostgres(url, onLost);
  return Promise.resolve(
    refuse("BadRequest", "--store must be pglite:DIRECTORY or postgres://user:password@host/database"),
  );
}

async function storeOn(database: Database): Promise<Store> {
  await migrate(database);
  return new Store(database);
}
