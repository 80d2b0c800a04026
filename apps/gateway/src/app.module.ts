/** The composition root: core classes are plain and are put together here. */
import { Module, type DynamicModule, type FactoryProvider } from '@nestjs/common';
import { ChangeStreams } from '#core/changes/streams.process.ts';
import { limitsOf } from '#core/bandwidth/limits.ts';
import { ThrottleStore } from '#core/bandwidth/store.pg.ts';
import { CollectionDirectory } from '#core/collections/directory.pg.ts';
import type { Settings } from '#core/config/settings.ts';
import { RecordTransactions } from '#core/conflicts/record-transaction.pg.ts';
import { ResolveCalls } from '#core/conflicts/resolve-call.pg.ts';
import { resolverCheck } from '#core/conflicts/resolver-check.pg.ts';
import { ConflictRestorer } from '#core/conflicts/restorer.pg.ts';
import { ConflictStore } from '#core/conflicts/store.pg.ts';
import { DeadLetterReplay } from '#core/dead-letters/replay.pg.ts';
import { DeadLetterStore } from '#core/dead-letters/store.pg.ts';
import { EventStreams } from '#core/events/stream.pg.ts';
import { JobBoard } from '#core/jobs/board.pg.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { LevelReader } from '#core/reads/level-reader.pg.ts';
import { Reader } from '#core/reads/reader.pg.ts';
import { Searcher } from '#core/search/searcher.pg.ts';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { ShardPlacement } from '#core/topology/shard-placement.ts';
import { StatusBoard } from '#core/topology/status.pg.ts';
import { FanOut } from '#core/writes/fan-out.pg.ts';
import { Patcher } from '#core/writes/patcher.pg.ts';
import { Strengthener } from '#core/writes/strengthen.pg.ts';
import { Writer } from '#core/writes/writer.pg.ts';
import { openChangeStreams } from './change-streams.ts';
import { Dashboard } from './dashboard/dashboard.files.ts';
import { ChangesController } from './http/changes.controller.ts';
import { ShardsController } from './http/shards.controller.ts';
import { ClusterController } from './http/cluster.controller.ts';
import { CollectionsController } from './http/collections.controller.ts';
import { ConflictsController } from './http/conflicts.controller.ts';
import { DeadLettersController } from './http/dead-letters.controller.ts';
import { EventsController } from './http/events.controller.ts';
import { JobsController } from './http/jobs.controller.ts';
import { OperatingController } from './http/operating.controller.ts';
import { PreflightController } from './http/preflight.controller.ts';
import { ThrottleController } from './http/throttle.controller.ts';
import { VectorsController } from './http/vectors.controller.ts';
import { ReplicasController } from './http/replicas.controller.ts';
import { VerifyController } from './http/verify.controller.ts';
import { GatewayMetrics } from './metrics.ts';
import { ChangeOperations } from './operations/changes.ts';
import { ClusterOperations } from './operations/cluster.ts';
import { CollectionOperations } from './operations/collections.ts';
import { ConflictOperations } from './operations/conflicts.ts';
import { DeadLetterOperations } from './operations/dead-letters.ts';
import { EventOperations } from './operations/events.ts';
import { JobOperations } from './operations/jobs.ts';
import { ThrottleOperations } from './operations/throttle.ts';
import { VectorOperations } from './operations/vectors.ts';
import { ShardOperations } from './operations/shards.ts';
import { ReplicaOperations } from './operations/replicas.ts';
import { VerifyOperations } from './operations/verify.ts';

export interface AppParts {
  readonly settings: Settings;
  readonly nodes: Nodes;
  readonly metrics: GatewayMetrics;
  readonly logger: Logger;
}

type Token = FactoryProvider['provide'];
const factory = (
  provide: Token,
  inject: Token[],
  useFactory: (...parts: never[]) => unknown,
): FactoryProvider => ({
  provide,
  inject: inject as FactoryProvider['inject'] & object,
  useFactory: useFactory as FactoryProvider['useFactory'],
});

const vectors = (settings: Settings, logger: Logger): FactoryProvider[] => [
  factory(ShardPlacement, [Nodes], (nodes: Nodes) => {
    const placement = new ShardPlacement(nodes.all, settings);
    nodes.onChange(() => placement.place(nodes.all));
    return placement;
  }),
  factory(
    CollectionDirectory,
    [Nodes],
    (nodes: Nodes) => new CollectionDirectory(nodes, resolverCheck(settings.resolversDir)),
  ),
  factory(
    FanOut,
    [Nodes, CollectionDirectory],
    (nodes: Nodes, directory: CollectionDirectory) =>
      new FanOut({ nodes, directory, logger, sessionsMax: settings.fanOutSessions }),
  ),
  factory(
    Strengthener,
    [Nodes, CollectionDirectory, FanOut],
    (nodes: Nodes, directory: CollectionDirectory, fanOut: FanOut) =>
      new Strengthener({ nodes, directory, fanOut }),
  ),
  factory(
    Writer,
    [Nodes, ShardPlacement, CollectionDirectory, Strengthener],
    (nodes: Nodes, placement: ShardPlacement, directory: CollectionDirectory, strengthener: Strengthener) =>
      new Writer({ nodes, placement, directory, strengthener }),
  ),
  factory(
    Patcher,
    [Nodes, ShardPlacement, Strengthener],
    (nodes: Nodes, placement: ShardPlacement, strengthener: Strengthener) =>
      new Patcher({ nodes, placement, strengthener }),
  ),
  factory(
    LevelReader,
    [Nodes, CollectionDirectory, FanOut],
    (nodes: Nodes, directory: CollectionDirectory, fanOut: FanOut) =>
      new LevelReader({ nodes, directory, fanOut }),
  ),
  factory(
    Reader,
    [Nodes, ShardPlacement, CollectionDirectory, LevelReader],
    (nodes: Nodes, placement: ShardPlacement, directory: CollectionDirectory, levels: LevelReader) =>
      new Reader({ nodes, placement, directory, levels }),
  ),
  factory(
    Searcher,
    [Nodes, Reader, CollectionDirectory],
    (nodes: Nodes, reader: Reader, directory: CollectionDirectory) =>
      new Searcher({ nodes, reader, directory }),
  ),
];

const conflicts: FactoryProvider[] = [
  factory(ConflictStore, [Nodes], (nodes: Nodes) => new ConflictStore(nodes)),
  factory(
    RecordTransactions,
    [Nodes, ShardPlacement],
    (nodes: Nodes, placement: ShardPlacement) => new RecordTransactions({ nodes, placement }),
  ),
  factory(
    ConflictRestorer,
    [Nodes, RecordTransactions],
    (nodes: Nodes, transactions: RecordTransactions) => new ConflictRestorer({ nodes, transactions }),
  ),
  factory(
    ResolveCalls,
    [Nodes, RecordTransactions],
    (nodes: Nodes, transactions: RecordTransactions) => new ResolveCalls({ nodes, transactions }),
  ),
];

const deadLetters = (logger: Logger): FactoryProvider[] => [
  factory(DeadLetterStore, [Nodes], (nodes: Nodes) => new DeadLetterStore(nodes)),
  factory(
    DeadLetterReplay,
    [DeadLetterStore],
    (store: DeadLetterStore) => new DeadLetterReplay({ store, logger }),
  ),
];

const cluster = (settings: Settings): FactoryProvider[] => [
  factory(EventStreams, [Nodes], (nodes: Nodes) => new EventStreams(nodes)),
  factory(JobBoard, [Nodes], (nodes: Nodes) => new JobBoard(nodes, settings)),
  factory(ChangeStreams, [Nodes], (nodes: Nodes) => openChangeStreams(settings, nodes)),
  factory(
    ThrottleOperations,
    [Nodes],
    (nodes: Nodes) => new ThrottleOperations(new ThrottleStore(nodes, limitsOf(settings))),
  ),
  factory(StatusBoard, [Nodes], (nodes: Nodes) => new StatusBoard(nodes, settings)),
  factory(
    ShardOperations,
    [Nodes, ShardPlacement, CollectionDirectory, JobOperations],
    (nodes: Nodes, placement: ShardPlacement, directory: CollectionDirectory, jobs: JobOperations) =>
      new ShardOperations({ nodes, placement, directory, jobs }),
  ),
];

const operations = (settings: Settings): FactoryProvider[] => [
  factory(
    VectorOperations,
    [CollectionDirectory, Writer, Patcher, Reader, Searcher, GatewayMetrics],
    (
      directory: CollectionDirectory,
      writer: Writer,
      patcher: Patcher,
      reader: Reader,
      searcher: Searcher,
      metrics: GatewayMetrics,
    ) => new VectorOperations({ settings, directory, writer, patcher, reader, searcher, metrics }),
  ),
  factory(
    CollectionOperations,
    [CollectionDirectory, JobBoard, Nodes],
    (directory: CollectionDirectory, jobs: JobBoard, nodes: Nodes) =>
      new CollectionOperations({ settings, directory, jobs, nodes }),
  ),
  factory(
    ConflictOperations,
    [ConflictStore, ConflictRestorer, ResolveCalls],
    (store: ConflictStore, restorer: ConflictRestorer, resolver: ResolveCalls) =>
      new ConflictOperations({ store, restorer, resolver }),
  ),
  factory(
    DeadLetterOperations,
    [DeadLetterStore, DeadLetterReplay],
    (store: DeadLetterStore, replay: DeadLetterReplay) => new DeadLetterOperations({ store, replay }),
  ),
  factory(
    ClusterOperations,
    [StatusBoard, Nodes, ShardPlacement, CollectionDirectory],
    (board: StatusBoard, nodes: Nodes, placement: ShardPlacement, directory: CollectionDirectory) =>
      new ClusterOperations({ board, nodes, placement, directory }),
  ),
  factory(
    ChangeOperations,
    [ChangeStreams, CollectionDirectory],
    (streams: ChangeStreams, directory: CollectionDirectory) => new ChangeOperations({ streams, directory }),
  ),
  factory(EventOperations, [EventStreams], (streams: EventStreams) => new EventOperations(streams)),
  factory(JobOperations, [JobBoard], (board: JobBoard) => new JobOperations(board)),
  factory(
    VerifyOperations,
    [CollectionDirectory, JobOperations, Nodes],
    (directory: CollectionDirectory, jobs: JobOperations, nodes: Nodes) =>
      new VerifyOperations({ directory, jobs, nodes }),
  ),
  factory(
    ReplicaOperations,
    [JobOperations, Nodes],
    (jobs: JobOperations, nodes: Nodes) => new ReplicaOperations({ jobs, nodes }),
  ),
  factory(Dashboard, [], () => new Dashboard()),
];

@Module({})
export class AppModule {
  static with(parts: AppParts): DynamicModule {
    const { settings, nodes, metrics, logger } = parts;
    return {
      module: AppModule,
      controllers: [
        CollectionsController,
        VectorsController,
        ConflictsController,
        ClusterController,
        ShardsController,
        DeadLettersController,
        EventsController,
        JobsController,
        PreflightController,
        ChangesController,
        OperatingController,
        VerifyController,
        ReplicasController,
        ThrottleController,
      ],
      providers: [
        { provide: Nodes, useValue: nodes },
        { provide: GatewayMetrics, useValue: metrics },
        ...vectors(settings, logger),
        ...conflicts,
        ...deadLetters(logger),
        ...cluster(settings),
        ...operations(settings),
      ],
    };
  }
}
