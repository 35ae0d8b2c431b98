/**
 * The tables, as steps that are each taken once, in order, and never changed after they were released. What was judged
 * and paid is only ever added to: the database itself refuses to change or remove it.
 */
import type { Database } from "./database.ts";

const APPEND_ONLY = [
  "sessions",
  "receipts",
  "verdicts",
  "equivocations",
  "settlements",
  "settled_sessions",
  "entries",
] as const;

const MIGRATIONS: readonly (readonly string[])[] = [
  [
    // What the operator told, and when. Only `gone_seconds` is ever set later, once.
    `create table facts (
      id bigint generated always as identity primary key,
      kind text not null,
      body text not null,
      first_seconds bigint not null,
      gone_seconds bigint
    )`,
    "create unique index facts_standing on facts (kind, body) where gone_seconds is null",
    // Sessions that count: their chain was whole and a gateway countersigned.
    `create table sessions (
      usage_digest text primary key,
      session text not null,
      nonce text not null,
      gateway text not null,
      model text not null,
      model_root text not null,
      epoch bigint not null,
      epoch_seconds bigint not null,
      price numeric(40, 0) not null check (price >= 0),
      prompt_tokens bigint not null check (prompt_tokens >= 0),
      generated_tokens bigint not null check (generated_tokens >= 0),
      positions bigint not null check (positions >= 0),
      usage bytea not null,
      judged_at timestamptz not null default now(),
      unique (session, nonce)
    )`,
    "create index sessions_epoch on sessions (epoch)",
    // Their receipts, one per rank, paid for or withheld.
    `create table receipts (
      digest text primary key,
      usage_digest text not null references sessions,
      place text not null unique,
      provider text not null,
      units numeric(60, 0) not null check (units >= 0),
      accepted boolean not null,
      receipt bytea not null
    )`,
    "create index receipts_usage on receipts (usage_digest)",
    // Every verdict but "ignore", each once.
    `create table verdicts (
      digest text not null,
      subject text not null check (subject in ('usage', 'receipt')),
      verdict text not null check (verdict in ('accept', 'reject')),
      code text not null,
      detail text not null,
      blame text not null,
      provider text,
      epoch bigint,
      judged_at timestamptz not null default now(),
      primary key (digest, verdict, code)
    )`,
    // Two receipts of one rank for one span, both signed: the second with its bytes, the first is in receipts.
    `create table equivocations (
      place text not null,
      provider text not null,
      first_digest text not null,
      second_digest text not null,
      first_receipt bytea not null,
      second_receipt bytea not null,
      primary key (place, first_digest, second_digest)
    )`,
    `create table settlements (
      sequence bigint primary key,
      epoch bigint not null,
      part bigint not null,
      digest text not null unique,
      previous text references settlements (digest),
      envelope bytea not null,
      settled_at timestamptz not null default now(),
      unique (epoch, part)
    )`,
    `create table settled_sessions (
      usage_digest text primary key references sessions,
      sequence bigint not null references settlements
    )`,
    `create table entries (
      id text primary key,
      sequence bigint not null references settlements,
      epoch bigint not null,
      debit text not null,
      credit text not null,
      amount numeric(60, 0) not null check (amount > 0)
    )`,
    "create index entries_credit on entries (credit, epoch)",
    `create function only_added_to() returns trigger language plpgsql as
      $$ begin raise exception 'the table % is only ever added to', tg_table_name; end $$`,
    ...APPEND_ONLY.map(
      (table) =>
        `create trigger ${table}_only_added_to before update or delete or truncate on ${table} for each statement execute function only_added_to()`,
    ),
  ],
];

/** Brings the tables up to date. Throws where the database is newer than this program. */
export async function migrate(database: Database): Promise<void> {
  await database.query(
    "create table if not exists migrations (step integer primary key, taken_at timestamptz not null default now())",
  );
  const [row] = await database.query("select coalesce(max(step), 0)::text as step from migrations");
  const taken = Number(row?.["step"] ?? 0);
  if (taken > MIGRATIONS.length)
    throw new Error(
      `the ledger's database is at step ${taken}, and this program knows ${MIGRATIONS.length}: run the newer version`,
    );
  for (const [index, statements] of MIGRATIONS.entries()) {
    if (index < taken) continue;
    await database.transaction(async (query) => {
      for (const statement of statements) await query(statement);
      await query("insert into migrations (step) values ($1)", [index + 1]);
    });
  }
}
