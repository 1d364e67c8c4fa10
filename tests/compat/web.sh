# web.sh
# shellcheck shell=bash

cases_web() {
	:
}
