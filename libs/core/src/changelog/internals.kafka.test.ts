import { expect, test } from '@jest/globals';
import { createRequire } from 'node:module';
import { mendRequestQueue } from './internals.kafka.ts';

interface Queue {
  pending: unknown[];
  throttleCheckTimeoutId: NodeJS.Timeout | null;
  scheduleCheckPendingRequests(): void;
  destroy(): void;
}
const RequestQueue = createRequire(import.meta.url)('kafkajs/src/network/requestQueue/index.js') as new (
  options: object,
) => Queue;

function queue(): Queue {
  return new RequestQueue({
    maxInFlightRequests: 1,
    requestTimeout: 1000,
    enforceRequestTimeout: true,
    clientId: 'c',
    broker: 'b',
    logger: { debug: () => undefined, warn: () => undefined },
  });
}

test('a request queue of kafkajs sets no timer when nothing waits', () => {
  mendRequestQueue();
  mendRequestQueue();
  const idle = queue();
  idle.scheduleCheckPendingRequests();
  expect(idle.throttleCheckTimeoutId).toBeNull();

  const busy = queue();
  busy.pending.push({});
  busy.scheduleCheckPendingRequests();
  expect(busy.throttleCheckTimeoutId).not.toBeNull();
  busy.destroy();
});
