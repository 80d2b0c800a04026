/**
 * Whether databases can be masters, before and after they are: what was seen on each becomes findings, each with its reason and the statement that mends
 * it. preflight.pg.ts looks. Pure.
 */
import { drifts, offsetsAgainstMedian, type ClockSample } from '../topology/clock-drift.ts';
import { quoteName, quoteTable } from './identifier.ts';
import type { Finding, NodeLook, PreflightNeeds, ServerFacts, Severity } from './preflight-facts.ts';
import { bySuperuser, finding, serverRules, type Reached } from './preflight-server.ts';

export interface PreflightNode {
  readonly name: string;
  readonly reached: boolean;
  /** Null when it was not reached. */
  readonly version: number | null;
  readonly pgvector: string | null;
  readonly founded: boolean;
}

export interface PreflightReport {
  /** No finding is an error. */
  readonly ok: boolean;
  readonly nodes: readonly PreflightNode[];
  /** The worst first. */
  readonly findings: readonly Finding[];
}

const order: Readonly<Record<Severity, number>> = { error: 0, warning: 1, advice: 2 };

export function preflightReport(looks: readonly NodeLook[], needs: PreflightNeeds): PreflightReport {
  const reached = looks.filter((look): look is Reached => look.reached);
  const findings = [
    ...looks.flatMap((look) => (look.reached ? [] : [unreached(look)])),
    ...reached.flatMap((look) => [
      ...serverRules.flatMap((rule) => rule(look, needs, looks.length)),
      ...between(look),
      ...rights(look),
      ...collections(look),
      ...identity(look, needs),
    ]),
    ...vectors(reached),
    ...together(reached, needs),
  ];
  return {
    ok: findings.every(({ severity }) => severity !== 'error'),
    nodes: looks.map((look) => ({
      name: look.name,
      reached: look.reached,
      version: look.reached ? look.facts.version : null,
      pgvector: look.reached ? look.facts.vector.installed : null,
      founded: look.reached && look.facts.founded !== null,
    })),
    findings: findings.toSorted((a, b) => order[a.severity] - order[b.severity]),
  };
}

function unreached(look: Extract<NodeLook, { reached: false }>): Finding {
  const why: Readonly<Record<string, string>> = {
    '28P01': 'the password in the address is not that of the role',
    '28000': 'pg_hba.conf does not let the role in from here, or there is no such role',
    '3D000': 'there is no such database: create it as docker/bootstrap.sql does',
    '53300': 'all connections are taken',
  };
  return finding(look, 'connection', 'error', {
    seen: look.message,
    why:
      why[look.sqlstate ?? ''] ??
      'the database has to be reached from gateways and replicators: look at address, firewall and server',
  });
}

/** What stands between this process and the server. */
function between(look: Reached): Finding[] {
  const found: Finding[] = [];
  if (look.pooler !== 'none')
    found.push(
      finding(look, 'pooler', look.pooler === 'transaction' ? 'error' : 'warning', {
        seen: `a connection pooler in ${look.pooler} mode answers at this address`,
        why:
          look.pooler === 'transaction'
            ? 'locks, settings and prepared statements of a session end up with others, and two processes could believe that they are alone: name the server itself in the address'
            : 'replication needs connections of its own to the server: name the server itself in the address',
      }),
    );
  if (look.replicationRefused !== null)
    found.push(
      finding(look, 'replication_connection', 'error', {
        seen: look.replicationRefused,
        why: 'changes are read over a replication connection to the database: the role needs REPLICATION, and pg_hba.conf a line for the database (not for "replication")',
        mend: look.facts.role.replication
          ? null
          : bySuperuser(`alter role ${quoteName(look.facts.role.name)} replication`),
      }),
    );
  return found;
}

interface Right {
  readonly check: string;
  readonly severity: Severity;
  readonly lacks: boolean;
  readonly seen: string;
  readonly why: string;
  readonly statements: readonly string[];
}

const rights = (look: Reached): Finding[] =>
  [...neededRights(look.facts), ...usefulRights(look.facts)]
    .filter(({ lacks }) => lacks)
    .map(({ check, severity, seen, why, statements }) =>
      finding(look, check, severity, { seen, why, mend: bySuperuser(...statements) }),
    );

function neededRights({ role, may, database, foreignObjects }: ServerFacts): Right[] {
  const name = quoteName(role.name);
  return [
    {
      check: 'replication_role',
      severity: 'error',
      lacks: !role.replication && !role.superuser,
      seen: `role ${role.name} may not replicate`,
      why: 'it makes and reads replication slots',
      statements: [`alter role ${name} replication`],
    },
    {
      check: 'create_in_database',
      severity: 'error',
      lacks: !may.createInDatabase,
      seen: `role ${role.name} may not create in database ${database}`,
      why: 'it makes its schema and a publication',
      statements: [`grant create on database ${quoteName(database)} to ${name}`],
    },
    {
      check: 'create_in_public',
      severity: 'error',
      lacks: !may.createInPublic,
      seen: `role ${role.name} may not create in schema public`,
      why: 'the tables of new collections are there',
      statements: [`grant usage, create on schema public to ${name}`],
    },
    {
      check: 'ownership',
      severity: 'error',
      lacks: foreignObjects.length > 0,
      seen: `${foreignObjects.length} objects of schema pgquorum belong to others, ${foreignObjects[0]?.name} for one`,
      why: 'triggers and migrations work as the owner',
      statements: foreignObjects.map(({ kind, name: object }) => `alter ${kind} ${object} owner to ${name}`),
    },
  ];
}

function usefulRights({ role, may }: ServerFacts): Right[] {
  const name = quoteName(role.name);
  return [
    {
      check: 'superuser',
      severity: 'warning',
      lacks: role.superuser,
      seen: `role ${role.name} is a superuser`,
      why: 'pgquorum needs no superuser: a mistake, or a stolen password, would reach the whole server',
      statements: [`alter role ${name} nosuperuser`],
    },
    {
      check: 'session_replication_role',
      severity: 'advice',
      lacks: !may.replicaRole,
      seen: `role ${role.name} may not set session_replication_role`,
      why: "users' own triggers and foreign keys run again on each master when a change is applied",
      statements: [`grant set on parameter session_replication_role to ${name}`],
    },
    {
      check: 'replication_origins',
      severity: 'advice',
      lacks: may.originsRefused.length > 0,
      seen: `role ${role.name} may not use replication origins`,
      why: 'changes that replication made are read from the WAL and thrown away, rather than left out',
      statements: [
        `grant execute on function ${may.originsRefused.join(', ')} to ${name}`,
        `grant select on pg_catalog.pg_replication_origin_status to ${name}`,
      ],
    },
  ];
}

function collections(look: Reached): Finding[] {
  const { role } = look.facts;
  return look.facts.collections.flatMap(({ name, schema, table, identity: kind, owned }) => {
    const quoted = quoteTable({ schema, name: table });
    const found: Finding[] = [];
    if (kind === 'n' || kind === 'f')
      found.push(
        finding(look, 'replica_identity', kind === 'n' ? 'error' : 'warning', {
          seen: `table ${schema}.${table} of collection ${name} has the replica identity ${kind === 'n' ? 'nothing' : 'full'}`,
          why:
            kind === 'n'
              ? 'its updates and deletes are refused while it is published'
              : 'each update writes the old row, with its embedding, into the WAL, where nothing reads it',
          mend: {
            statements: [`alter table ${quoted} replica identity default`],
            as: 'role',
            restart: false,
          },
        }),
      );
    if (!owned)
      found.push(
        finding(look, 'ownership', 'error', {
          seen: `table ${schema}.${table} of collection ${name} belongs to another role`,
          why: 'its triggers and its membership in the publication are kept by its owner',
          mend: bySuperuser(`alter table ${quoted} owner to ${quoteName(role.name)}`),
        }),
      );
    return found;
  });
}

function identity(look: Reached, { cluster, log }: PreflightNeeds): Finding[] {
  const { founded } = look.facts;
  if (founded === null || (founded.cluster === cluster && founded.name === look.name && founded.log === log))
    return [];
  return [
    finding(look, 'identity', 'error', {
      seen: `the database is node ${founded.name} of cluster ${founded.cluster}, with the change log ${founded.log}`,
      why: `here it is listed as node ${look.name} of cluster ${cluster} with the change log ${log}: a node keeps its name, cluster and log`,
    }),
  ];
}

const parts = (version: string): number[] => version.split('.').map((part) => Number.parseInt(part, 10));

/** Negative: `a` is older. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [parts(a), parts(b)];
  for (let at = 0; at < Math.max(left.length, right.length); at++) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** halfvec and sparsevec came with it. */
const pgvectorMin = '0.7.0';

function vectors(looks: readonly Reached[]): Finding[] {
  const newest = looks
    .flatMap(({ facts }) => facts.vector.installed ?? [])
    .toSorted(compareVersions)
    .at(-1);
  return looks.flatMap((look) => {
    const { installed, available } = look.facts.vector;
    if (installed === null)
      return [
        finding(look, 'pgvector', 'error', {
          seen:
            available === null
              ? 'the server has no pgvector'
              : 'the extension vector is not created in the database',
          why:
            available === null
              ? 'collections have vector columns: install the package of pgvector on the server, or switch it on with the provider'
              : 'collections have vector columns',
          mend: available === null ? null : bySuperuser('create extension vector schema public'),
        }),
      ];
    const tooOld = compareVersions(installed, pgvectorMin) < 0;
    const behind = newest !== undefined && compareVersions(installed, newest) < 0;
    const outdated = available !== null && compareVersions(installed, available) < 0;
    if (!tooOld && !behind && !outdated) return [];
    return [
      finding(look, 'pgvector', tooOld ? 'error' : behind ? 'warning' : 'advice', {
        seen: `pgvector ${installed}${outdated ? `, ${available} is installed on the server` : ''}${behind ? `, another master has ${newest}` : ''}`,
        why: tooOld
          ? `${pgvectorMin} or newer is needed`
          : behind
            ? 'masters should find the same, and what one can index another should'
            : 'the newer one is there and not used yet',
        mend: outdated ? bySuperuser('alter extension vector update') : null,
      }),
    ];
  });
}

/** What shows only when the nodes are looked at side by side. */
function together(looks: readonly Reached[], { clockDriftMaxMs }: PreflightNeeds): Finding[] {
  const seen = new Map<string, string>();
  const twice = looks.flatMap((look) => {
    const database = `${look.facts.systemIdentifier} ${look.facts.databaseOid}`;
    const first = seen.get(database);
    seen.set(database, first ?? look.name);
    return first === undefined
      ? []
      : [
          finding(look, 'same_database', 'error', {
            seen: `the database is that of node ${first}, or a copy of its files`,
            why: 'each node is a database of its own',
          }),
        ];
  });
  const majors = new Set(looks.map(({ facts }) => Math.floor(facts.version / 10_000)));
  const oldest = Math.min(...majors);
  const versions = looks
    .filter(({ facts }) => majors.size > 1 && Math.floor(facts.version / 10_000) === oldest)
    .map((look) =>
      finding(look, 'versions', 'advice', {
        seen: `Postgres ${oldest}, other masters have ${[...majors].filter((major) => major !== oldest).join(', ')}`,
        why: 'masters of different versions replicate; stay so no longer than an upgrade takes, since statements that only the newer one knows fail here',
      }),
    );
  const clocks = new Map<number, ClockSample>(
    looks.flatMap((look, at) => (look.clock === null ? [] : [[at, look.clock] as const])),
  );
  const drifting = [...offsetsAgainstMedian([clocks])].flatMap(([at, offsetMs]) =>
    drifts(offsetMs, clockDriftMaxMs)
      ? [
          finding(looks[at]!, 'clock', 'warning', {
            seen: `the clock is ${Math.abs(offsetMs)} ms ${offsetMs > 0 ? 'ahead of' : 'behind'} the median of the masters`,
            why: 'of concurrent writes those of a clock that is ahead win: let NTP set it',
          }),
        ]
      : [],
  );
  return [...twice, ...versions, ...drifting];
}
