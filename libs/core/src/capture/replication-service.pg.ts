/**
 * The library's replication connection, whose loss never ends the process: the library listens for errors only once the connection is open, and a server that goes
 * away then may send its last word together with its welcome.
 */
import pg from 'pg';
import { LogicalReplicationService } from 'pg-logical-replication';

/** What the library calls for a connection, and where it keeps it. */
interface Inner {
  client: () => Promise<[pg.Client, unknown]>;
  _client: pg.Client | null;
  _connection: unknown;
}

/** Acknowledges nothing by itself. */
export function replicationService(config: pg.ClientConfig): LogicalReplicationService {
  const service = new LogicalReplicationService(config, { acknowledge: { auto: false, timeoutSeconds: 0 } });
  const inner = service as unknown as Inner;
  inner.client = async () => {
    await service.stop();
    const client = new pg.Client({ ...config, replication: 'database' } as pg.ClientConfig);
    client.on('error', (cause) => service.emit('error', cause));
    inner._client = client;
    await client.connect();
    inner._connection = (client as unknown as { connection: unknown }).connection;
    return [client, inner._connection];
  };
  return service;
}
