import { parentPort, workerData } from 'node:worker_threads';
import { runConversion } from '../src/engine/images/conversion/conversion-thread.ts';
import type { ThreadOptions } from '../src/engine/images/conversion/thread-messages.ts';
import { giveWay } from '../src/host/priority.ts';

/** The thread that turns the layers of an image into a filesystem; the engine starts one for each image. */
giveWay();
void runConversion(parentPort!, workerData as ThreadOptions);
