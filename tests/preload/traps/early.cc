/*
 * early.cc - a static C++ object whose constructor makes connections before
 * main(), by echo.c (-DPART). Trap 21.
 */
#include <cstdio>

extern "C" int echo_works(void);

namespace
{
struct connected {
	int good;
	connected() : good(echo_works())
	{
	}
};
connected object;
} // namespace

int main()
{
	std::printf("before main %d\n", object.good);
	std::printf("in main %d\n", echo_works());
	return 0;
}
