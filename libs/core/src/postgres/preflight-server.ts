/** What the settings of one server, and what it has left, mean for replication. Pure. */
import { quoteName, quoteText } from './identifier.ts';
import type { Finding, Mend, NodeLook, PreflightNeeds, ServerFacts, Severity } from './preflight-facts.ts';

export type Reached = Extract<NodeLook, { reached: true }>;
type Rule = (look: Reached, needs: PreflightNeeds, nodes: number) => Finding[];

export const finding = (
  look: NodeLook,
  check: string,
  severity: Severity,
  said: { readonly seen: string; readonly why: string; readonly mend?: Mend | null },
): Finding => ({ node: look.name, check, severity, mend: null, ...said });

export const bySuperuser = (...statements: string[]): Mend => ({
  statements,
  as: 'superuser',
  restart: false,
});
const afterRestart = (statement: string): Mend => ({
  statements: [statement],
  as: 'superuser',
  restart: true,
});
const readOnly = 'default_transaction_read_only';
const reload = 'select pg_reload_conf()';

/** Where the value is from is where it has to be changed. */
function mendSetting(name: string, value: string, facts: ServerFacts): Mend {
  const mend = changeSetting(name, value, facts);
  return name === readOnly ? { ...mend, statements: [`set ${readOnly} = off`, ...mend.statements] } : mend;
}

function changeSetting(name: string, value: string, { settings, role, database }: ServerFacts): Mend {
  switch (settings[name]?.source) {
    case 'user':
      return bySuperuser(`alter role ${quoteName(role.name)} set ${name} = ${quoteText(value)}`);
    case 'database':
      return bySuperuser(`alter database ${quoteName(database)} set ${name} = ${quoteText(value)}`);
    case 'database user':
      return bySuperuser(
        `alter role ${quoteName(role.name)} in database ${quoteName(database)} set ${name} = ${quoteText(value)}`,
      );
    default:
      return bySuperuser(`alter system set ${name} = ${quoteText(value)}`, reload);
  }
}

const valueOf = ({ facts }: Reached, name: string): string | undefined => facts.settings[name]?.value;
const numberOf = (look: Reached, name: string): number => Number(valueOf(look, name) ?? 0);

/** A setting whose value has to be another one. */
const wanted =
  (
    name: string,
    rule: {
      readonly severity: Severity;
      readonly bad: (value: string) => boolean;
      readonly to: string;
      readonly why: string;
      readonly restart?: boolean;
    },
  ): Rule =>
  (look) => {
    const value = valueOf(look, name);
    if (value === undefined || !rule.bad(value)) return [];
    const mend = rule.restart
      ? afterRestart(`alter system set ${name} = ${quoteText(rule.to)}`)
      : mendSetting(name, rule.to, look.facts);
    return [finding(look, name, rule.severity, { seen: `${name} is ${value}`, why: rule.why, mend })];
  };

const isOff = (value: string): boolean => value === 'off';
const isPositive = (value: string): boolean => Number(value) > 0;

const settingRules: readonly Rule[] = [
  // First, since it is in the way of the other statements.
  wanted(readOnly, {
    severity: 'error',
    bad: (value) => value === 'on',
    to: 'off',
    why: 'a master has to take writes',
  }),
  wanted('wal_level', {
    severity: 'error',
    bad: (value) => value !== 'logical',
    to: 'logical',
    why: 'changes can not be read from the WAL without it',
    restart: true,
  }),
  wanted('fsync', {
    severity: 'error',
    bad: isOff,
    to: 'on',
    why: 'a machine that goes down loses what was acknowledged, and can damage the database',
  }),
  wanted('full_page_writes', {
    severity: 'error',
    bad: isOff,
    to: 'on',
    why: 'a machine that goes down in the middle of a page can damage the database',
  }),
  wanted('synchronous_commit', {
    severity: 'warning',
    bad: isOff,
    to: 'on',
    why: "pgquorum's own sessions set it on, but those of SQL clients are told that a commit stands which a crash can lose",
  }),
  wanted('max_slot_wal_keep_size', {
    severity: 'warning',
    bad: (value) => value === '-1',
    to: '16GB',
    why: 'WAL is kept for a peer that is away: without a limit one dead peer fills the disk and stops this master',
  }),
  wanted('idle_replication_slot_timeout', {
    severity: 'warning',
    bad: isPositive,
    to: '0',
    why: 'the slot of a peer that is away longer than this is lost, and the peer has to be resynchronised',
  }),
  wanted('max_prepared_transactions', {
    severity: 'advice',
    bad: (value) => value === '0',
    to: '64',
    why: 'transactions across masters need prepared transactions',
    restart: true,
  }),
  wanted('max_parallel_maintenance_workers', {
    severity: 'advice',
    bad: (value) => value === '0',
    to: '2',
    why: 'an index over vectors is built by one process alone',
  }),
  wanted('max_worker_processes', {
    severity: 'advice',
    bad: (value) => Number(value) < 4,
    to: '8',
    why: 'parallel builds of indexes over vectors find no workers',
    restart: true,
  }),
  ...['statement_timeout', 'transaction_timeout', 'idle_session_timeout'].map((name) =>
    wanted(name, {
      severity: 'warning',
      bad: isPositive,
      to: '0',
      why: "it ends pgquorum's own long work and waiting sessions: set it for the roles of applications instead",
    }),
  ),
];

/** What each node needs at itself: one slot and one sender for each that reads from it. */
const readersOf = (nodes: number, { log }: PreflightNeeds): number => (log === 'kafka' ? 1 : nodes - 1);

const room =
  (check: 'max_replication_slots' | 'max_wal_senders', of: 'slots' | 'walSenders', what: string): Rule =>
  (look, needs, nodes) => {
    const { used, ours } = look.facts[of];
    const max = numberOf(look, check);
    const need = readersOf(nodes, needs);
    const left = max - (used - ours);
    if (left >= need) return [];
    return [
      finding(look, check, 'error', {
        seen: `${max} ${what}, ${used - ours} of them used by others: ${left} left, ${need} needed`,
        why:
          needs.log === 'kafka' ? 'the feed of the topic reads from one' : 'each other master reads from one',
        mend: afterRestart(`alter system set ${check} = '${used - ours + need + 5}'`),
      }),
    ];
  };

/** A replicator takes some for each other node, a gateway a pool. */
const connectionsWanted = (nodes: number): number => 10 + nodes * 8;

const connections: Rule = (look, _needs, nodes) => {
  const { facts } = look;
  const left =
    numberOf(look, 'max_connections') - numberOf(look, 'superuser_reserved_connections') - facts.connections;
  const want = connectionsWanted(nodes);
  const found: Finding[] = [];
  if (left < want)
    found.push(
      finding(look, 'max_connections', 'warning', {
        seen: `${left} connections left`,
        why: `a gateway and the replicators take up to ${want}; what finds none waits or fails`,
        mend: afterRestart(
          `alter system set max_connections = '${numberOf(look, 'max_connections') + want}'`,
        ),
      }),
    );
  if (facts.role.connectionLimit >= 0 && facts.role.connectionLimit < want)
    found.push(
      finding(look, 'connection_limit', 'warning', {
        seen: `role ${facts.role.name} may have ${facts.role.connectionLimit} connections`,
        why: `a gateway and the replicators take up to ${want}`,
        mend: bySuperuser(`alter role ${quoteName(facts.role.name)} connection limit -1`),
      }),
    );
  return found;
};

const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

const disk: Rule = (look) => {
  const { disk: found, role, may } = look.facts;
  if (found === null) {
    if (may.readSettings) return [];
    return [
      finding(look, 'disk', 'advice', {
        seen: 'free disk can not be seen',
        why: 'where the data folder is on the same machine, preflight looks at its disk if it is told the path',
        mend: bySuperuser(`grant pg_read_all_settings to ${quoteName(role.name)}`),
      }),
    ];
  }
  const keepMib = numberOf(look, 'max_slot_wal_keep_size');
  const keep = keepMib > 0 ? keepMib * 2 ** 20 : 0;
  const short = found.freeBytes < keep || found.freeBytes < found.totalBytes / 10;
  if (!short) return [];
  return [
    finding(look, 'disk', 'warning', {
      seen: `${gib(found.freeBytes)} of ${gib(found.totalBytes)} are free`,
      why: `a full disk stops the master; slots may keep ${keep > 0 ? gib(keep) : 'any amount of'} WAL: free some, or lower max_slot_wal_keep_size`,
    }),
  ];
};

const server: Rule = (look) => {
  const { version, inRecovery, encoding, database } = look.facts;
  const found: Finding[] = [];
  if (version < 150000)
    found.push(
      finding(look, 'version', 'error', {
        seen: `Postgres ${Math.floor(version / 10000)}`,
        why: 'Postgres 15 or newer is needed: upgrade the server',
      }),
    );
  if (inRecovery)
    found.push(
      finding(look, 'standby', 'error', {
        seen: 'the server is a standby',
        why: 'a master has to take writes: name the primary in the address',
      }),
    );
  if (encoding !== 'UTF8')
    found.push(
      finding(look, 'encoding', 'error', {
        seen: `database ${database} has the encoding ${encoding}`,
        why: "texts of other masters would not fit, and keys would have other hashes. A database can not change it: make another one with encoding 'UTF8' template template0",
      }),
    );
  return found;
};

export const serverRules: readonly Rule[] = [
  server,
  ...settingRules,
  room('max_replication_slots', 'slots', 'replication slots'),
  room('max_wal_senders', 'walSenders', 'WAL senders'),
  connections,
  disk,
];
