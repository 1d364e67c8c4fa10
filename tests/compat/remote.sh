# remote.sh
# shellcheck shell=bash

cases_remote() {
	:
}
