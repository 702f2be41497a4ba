import { standInColumn } from '../../support/parity/columns.ts';
import { describeDriver } from '../../support/parity/list.ts';

/** What all drivers have in common, by one that needs no build; the others: test/system/drivers.test.ts. */
describeDriver(await standInColumn());
