/**
 * What a superuser does once for an embedded master: the run-time role, its database, the extension. Everything after that is done by the role,
 * which is no superuser, exactly as with databases of the user's own.
 */
import pg from 'pg';
import { PgquorumError } from '../errors/error.ts';

export const runtimeRole = 'pgquorum';
export const runtimeDatabase = 'pgquorum';

export interface PrepareOptions {
  readonly superUrl: string;
  readonly role?: string;
  readonly rolePassword: string;
  readonly database?: string;
  /** Lets the role use replication origins and session_replication_role: replication is right without them, and cheaper with them. */
  readonly originPrivileges: boolean;
}

/** Safe to repeat: what is there already is left, the password is set anew. */
export async function prepareDatabase(options: PrepareOptions): Promise<void> {
  const {
    superUrl,
    role = runtimeRole,
    rolePassword,
    database = runtimeDatabase,
    originPrivileges,
  } = options;
  await withClient(superUrl, async (client) => {
    const name = client.escapeIdentifier(role);
    const { rowCount: roles } = await client.query('select from pg_catalog.pg_roles where rolname = $1', [
      role,
    ]);
    if (roles === 0) await client.query(`create role ${name}`);
    await client.query(`alter role ${name} login replication password ${client.escapeLiteral(rolePassword)}`);
    // The role is named like pgquorum's own schema, which "$user" would put first: its unqualified tables belong into public.
    await client.query(`alter role ${name} set search_path = public`);
    const { rowCount: databases } = await client.query(
      'select from pg_catalog.pg_database where datname = $1',
      [database],
    );
    if (databases === 0)
      await client.query(`create database ${client.escapeIdentifier(database)} owner ${name}`);
    if (originPrivileges) await client.query(`grant set on parameter session_replication_role to ${name}`);
  });
  await withClient(withDatabase(superUrl, database), async (client) => {
    await client.query('create extension if not exists vector with schema public');
    if (originPrivileges) await grantOrigins(client, role);
  });
}

/** Grants on functions count in one database only. `set` on the parameter counts in the whole server. */
async function grantOrigins(client: pg.Client, role: string): Promise<void> {
  const { rows } = await client.query<{ signature: string }>(
    `select p.oid::regprocedure::text as signature from pg_catalog.pg_proc p
      where p.pronamespace = 'pg_catalog'::regnamespace and p.proname like 'pg\\_replication\\_origin\\_%' order by 1`,
  );
  const functions = rows.map((row) => row.signature).join(', ');
  const name = client.escapeIdentifier(role);
  await client.query(`grant execute on function ${functions} to ${name}`);
  await client.query(`grant select on pg_catalog.pg_replication_origin_status to ${name}`);
}

export function withDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${encodeURIComponent(database)}`;
  return changed.href;
}

export function serverUrl(options: {
  role: string;
  password: string;
  port: number;
  database: string;
}): string {
  const { role, password, port, database } = options;
  return `postgres://${encodeURIComponent(role)}:${encodeURIComponent(password)}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
}

export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: 'pgquorum embedded' });
  // A server that goes away between two queries must be an error of the next query, not of the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (cause) {
    throw new PgquorumError(
      'embedded_failed',
      `cannot connect to an embedded master: ${(cause as Error).message}`,
      { cause },
    );
  }
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
