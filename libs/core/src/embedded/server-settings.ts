/** The server settings of embedded masters, and how they are written down. */

export type ServerSettings = Readonly<Record<string, string>>;

/** What replication needs, whatever the server is for. DESIGN: one slot per edge, prepared transactions for writes across shards. */
const replication: ServerSettings = {
  wal_level: 'logical',
  max_wal_senders: '40',
  max_replication_slots: '40',
  max_prepared_transactions: '40',
  track_commit_timestamp: 'on',
  // Slots keep WAL while a peer is away. Without a limit one dead peer fills the disk; beyond it the slot is lost and the peer resyncs.
  max_slot_wal_keep_size: '16GB',
  password_encryption: 'scram-sha-256',
  logging_collector: 'off',
  log_line_prefix: '%m [%p] %q%u@%d ',
  // Loopback only and no sockets: a socket's path may be at most 107 bytes, a data folder's may be longer.
  unix_socket_directories: '',
};

/** For the cluster of `npm start`: everything durable, sized for a laptop. */
export const embeddedServerSettings: ServerSettings = {
  ...replication,
  max_connections: '200',
  shared_buffers: '128MB',
  max_wal_size: '2GB',
  maintenance_work_mem: '256MB',
  checkpoint_timeout: '10min',
  log_checkpoints: 'off',
};

/** For tests: many small servers at once. A killed server loses nothing without fsync, only a killed machine would. */
export const testServerSettings: ServerSettings = {
  ...replication,
  max_connections: '200',
  shared_buffers: '48MB',
  max_wal_size: '1GB',
  maintenance_work_mem: '128MB',
  log_checkpoints: 'off',
  fsync: 'off',
  log_lock_waits: 'on',
};

/** From 18 on, origins have a setting of their own (10 by default); before, they shared that of the slots. */
export function settingsForMajor(settings: ServerSettings, major: number): ServerSettings {
  return major >= 18 ? { max_active_replication_origins: '40', ...settings } : settings;
}

export function renderSettings(settings: ServerSettings): string {
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`);
  return [
    '# Written at every start. Your own settings belong into postgresql.conf, below the line that includes this file.',
    ...lines,
    '',
  ].join('\n');
}

/** initdb's locale flags: the same order and the same letters on every machine. */
export function localeFlags(major: number, platform: NodeJS.Platform): string[] {
  if (major >= 17)
    return ['--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C'];
  return ['--encoding=UTF8', platform === 'linux' ? '--locale=C.UTF-8' : '--locale=C'];
}
