/** The methods on the limits of edges. 0 is a message's way of saying that there is none. */
import type { LimitsView } from '#core/bandwidth/limits.ts';
import type { ThrottleOperations } from '../operations/throttle.ts';
import type { CallContext, Method } from './services.ts';

interface SetMessage {
  readonly bytesPerSecond?: string;
  readonly totalBytesPerSecond?: string;
  readonly ifMatch?: string;
}

const show = ({ bytesPerSecond, totalBytesPerSecond, revision }: LimitsView): object => ({
  bytesPerSecond: bytesPerSecond ?? 0,
  totalBytesPerSecond: totalBytesPerSecond ?? 0,
  revision,
});

const limitOf = (value: string): number | null => (value === '0' ? null : Number(value));

export const throttleMethods = (throttle: ThrottleOperations): Record<string, Method> => ({
  GetThrottle: async () => show(await throttle.get()),
  SetThrottle: async (
    { bytesPerSecond, totalBytesPerSecond, ifMatch = '' }: SetMessage,
    { caller }: CallContext,
  ) => {
    const body = {
      ...(bytesPerSecond === undefined ? {} : { bytesPerSecond: limitOf(bytesPerSecond) }),
      ...(totalBytesPerSecond === undefined ? {} : { totalBytesPerSecond: limitOf(totalBytesPerSecond) }),
    };
    return show(await throttle.set(body, ifMatch === '' ? null : ifMatch, caller.principal));
  },
});
