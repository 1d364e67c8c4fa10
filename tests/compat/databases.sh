# databases.sh
# shellcheck shell=bash

cases_databases() {
	:
}
