/** PostgreSQL inside this process, its files in a directory of ours; for local mode and small installations. */
import { mkdirSync, openSync, readFileSync, rmSync, writeSync, closeSync } from "node:fs";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { type Result, ok, refuse } from "../../core/result.ts";
import type { Database, Query, Row } from "./database.ts";

/** Opens the database in `directory`, made if absent. `StoreInUse` where a living process has it open. */
export async function openPglite(directory: string): Promise<Result<Database, "StoreInUse">> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lockFile = join(directory, "lock");
  const holder = lock(lockFile);
  if (holder !== undefined)
    return refuse(
      "StoreInUse",
      `process ${holder} has the ledger in ${directory} open; stop it first (or remove ${lockFile} if it is no ledger)`,
    );
  const database = await PGlite.create(join(directory, "data"));
  return ok(databaseOf(database, () => rmSync(lockFile, { force: true })));
}

/** One that is gone with the process: for tests. */
export const openMemory = async (): Promise<Database> => databaseOf(await PGlite.create(), () => {});

function databaseOf(database: PGlite, closed: () => void): Database {
  const queryOf =
    (on: Pick<PGlite, "query">): Query =>
    async (text, values = []) =>
      (await on.query<Row>(text, [...values])).rows;
  return {
    query: queryOf(database),
    transaction: (work) => database.transaction((open) => work(queryOf(open))),
    close: async () => {
      await database.close();
      closed();
    },
  };
}

/** Takes the lock, or says which living process holds it. A lock that outlived its process (or is our own: process 1 of a container) is taken over. */
function lock(file: string): number | undefined {
  for (;;) {
    try {
      const opened = openSync(file, "wx", 0o600);
      writeSync(opened, String(process.pid));
      closeSync(opened);
      return undefined;
    } catch (error) {
      if (!isCode(error, "EEXIST")) throw new Error(`cannot write ${file}`, { cause: error });
    }
    const holder = Number(readFileSync(file, "utf8"));
    if (Number.isInteger(holder) && holder > 0 && holder !== process.pid && isAlive(holder)) return holder;
    rmSync(file, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return isCode(error, "EPERM");
  }
}

const isCode = (error: unknown, code: string): boolean => error instanceof Error && Reflect.get(error, "code") === code;
